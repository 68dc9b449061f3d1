//! The server.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;

use sidewire::{Access, Endpoint, Listen, Responder, Server, WhenSlow};

use super::{Result, USAGE};

pub(crate) const PUBLISH: u16 = 2;
pub(crate) const ECHO: u16 = 4;
pub(crate) const DEFERRED: u16 = 5;
const TOPIC: u16 = 1;

/// What each request costs on purpose.
#[derive(Clone, Copy)]
enum Waste {
    Nothing,
    SystemCall,
    Allocation,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (endpoint, waste) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [endpoint] => (endpoint, Waste::Nothing),
        [endpoint, "--waste", "system-call"] => (endpoint, Waste::SystemCall),
        [endpoint, "--waste", "allocation"] => (endpoint, Waste::Allocation),
        _ => return Err(USAGE.into()),
    };
    let mut server = Server::new(());
    server.stop_on_signals()?;
    server.topic(TOPIC, WhenSlow::KeepLatest);
    server.on(PUBLISH, move |(), request, _reply| {
        throw_away(waste);
        request.publish(TOPIC, request.payload())
    });
    server.on(ECHO, move |(), request, reply| {
        throw_away(waste);
        reply.write(request.payload());
        Ok(())
    });
    let (work, begun) = mpsc::channel::<(Responder, Vec<u8>)>();
    server.on(DEFERRED, move |(), request, reply| {
        // The thread lives as long as this does.
        drop(work.send((reply.defer()?, request.to_vec()?)));
        Ok(())
    });
    thread::spawn(move || {
        for (responder, payload) in begun {
            responder.reply(payload);
        }
    });
    println!("listening {}", listen(&mut server, endpoint)?);
    Ok(server.run()?)
}

fn listen(server: &mut Server<()>, endpoint: &str) -> Result<Endpoint> {
    let listen = Listen::on(endpoint)?;
    let is_vouched_for = endpoint.parse::<Endpoint>()?.has_credentials();
    Ok(server.listen(if is_vouched_for { listen } else { listen.access(Access::Anyone) })?)
}

fn throw_away(waste: Waste) {
    match waste {
        Waste::Nothing => {}
        Waste::SystemCall => thread::yield_now(),
        Waste::Allocation => drop(black_box(vec![0x2e_u8; 64])),
    }
}

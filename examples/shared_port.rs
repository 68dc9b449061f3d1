//! Several processes behind one TCP port: the system gives each new connection to one of them (SO_REUSEPORT, Linux).
//!
//!     shared_port 127.0.0.1:7000      (as often as there are to be processes; stop them one by one)
//!
//! Type 1 answers with the process that has it: `sidewire call --access anyone tcp:127.0.0.1:7000 1`, some times. What these
//! processes keep they keep each for itself, so this is for servers that keep nothing, or ask the one that does.

mod support;

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use sidewire::{Access, Listen, Server};
use support::{Printer, finish};

const WHO: u16 = 1;
const USAGE: &str = "usage: shared_port ADDRESS:PORT";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [address] => finish("shared_port", USAGE, Some(serve(address))),
        _ => finish("shared_port", USAGE, None),
    }
}

fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(());
    server.on(WHO, |(), _request, reply| {
        reply.write(std::process::id().to_string());
        Ok(())
    });
    server.stop_on_signals()?;
    // Nobody's credentials are known over TCP: say who may come. With a token it is not anyone.
    let bound = server.listen(Listen::adopt(share(address.parse()?)?)?.access(Access::Anyone))?;
    let printer = Printer::new()?;
    printer.print(format!("listening {bound}\n"));
    server.run()?;
    Ok(())
}

/// A listener at an address that others of the same user may share with it, if each of them says so before it binds
/// (socket(7)). The system chooses by the addresses of both ends, and knows nothing of who has how much to do.
#[cfg(target_os = "linux")]
fn share(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?; // or it waits for what is left of old connections
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 1024)?;
    Ok(socket.into())
}

#[cfg(not(target_os = "linux"))]
fn share(_: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    Err("other systems have no SO_REUSEPORT, or give all connections to one of the processes".into())
}

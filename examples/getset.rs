//! A value that two processes share: one serves it, others get and set it.
//!
//!     getset serve [ENDPOINT]...
//!     getset get [ENDPOINT]
//!     getset set TEXT [ENDPOINT]
//!     getset setget TEXT [ENDPOINT]      (prints the value from before)

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use sidewire::{Access, Client, Connect, Endpoint, Listen, Server};

const GET: u16 = 1;
const SET: u16 = 2;
const SET_AND_GET: u16 = 3;

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "local:getset";

const USAGE: &str = "usage: getset serve [ENDPOINT]...
       getset get [ENDPOINT]
       getset set TEXT [ENDPOINT]
       getset setget TEXT [ENDPOINT]

ENDPOINT is local:NAME (default local:getset), unix:/PATH, abstract:NAME, pipe:NAME, tcp:HOST:PORT,
unixgram:/PATH, abstractgram:NAME or udp:HOST:PORT";

/// What the server keeps, and its handlers change.
struct State {
    text: Vec<u8>,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["serve"] => serve(&[DEFAULT]),
        ["serve", ref endpoints @ ..] => serve(endpoints),
        ["get"] => ask(DEFAULT, GET, ""),
        ["get", endpoint] => ask(endpoint, GET, ""),
        ["set", text] => ask(DEFAULT, SET, text),
        ["set", text, endpoint] => ask(endpoint, SET, text),
        ["setget", text] => ask(DEFAULT, SET_AND_GET, text),
        ["setget", text, endpoint] => ask(endpoint, SET_AND_GET, text),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("getset: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(endpoints: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(State { text: b"hello, this is server!".to_vec() });
    server.on(GET, |state, _request, reply| {
        reply.write(&state.text);
        Ok(())
    });
    server.on(SET, |state, request, _reply| {
        state.text = request.to_vec()?;
        Ok(())
    });
    server.on(SET_AND_GET, |state, request, reply| {
        let new = request.to_vec()?;
        // What this client can't take stays: or it would be lost.
        reply.try_write(&state.text)?;
        state.text = new;
        Ok(())
    });

    // Ctrl-C ends the loop; dropping the server then removes its socket files.
    let remote = server.remote()?;
    ctrlc::set_handler(move || {
        if let Err(error) = remote.stop() {
            eprintln!("getset: {error}");
        }
    })?;
    let mut bound = Vec::new();
    for endpoint in endpoints {
        let endpoint: Endpoint = endpoint.parse()?;
        // The same user's processes only, wherever the system can tell users apart.
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        bound.push(server.listen(Listen::from(endpoint).access(access))?);
    }
    for endpoint in &bound {
        println!("listening {endpoint}");
    }
    std::io::stdout().flush()?;
    server.run()?;
    Ok(())
}

/// Sends one request and prints what comes back.
fn ask(endpoint: &str, msg_type: u16, text: &str) -> Result<(), Box<dyn Error>> {
    let endpoint: Endpoint = endpoint.parse()?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let client: Client = Connect::to(&endpoint)?.access(access).open()?;
    let payload = client.call(msg_type, text)?.into_payload();
    if msg_type != SET {
        println!("{}", String::from_utf8_lossy(&payload));
    }
    Ok(())
}

//! A value that two processes share: one serves it, others get and set it.
//!
//!     getset serve [ENDPOINT]...
//!     getset get [ENDPOINT]
//!     getset set TEXT [ENDPOINT]
//!     getset setget TEXT [ENDPOINT]      (prints the value from before)

mod support;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use sidewire::{Access, Client, Connect, Endpoint, Listen, Server};
use support::{Printer, finish, print};

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
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    let default = OsStr::new(DEFAULT);
    let result = match (command, args.get(1..).unwrap_or_default()) {
        ("serve", []) => serve(&[default.into()]),
        ("serve", endpoints) => serve(endpoints),
        ("get", []) => ask(default, GET, OsStr::new("")),
        ("get", [endpoint]) => ask(endpoint, GET, OsStr::new("")),
        ("set", [text]) => ask(default, SET, text),
        ("set", [text, endpoint]) => ask(endpoint, SET, text),
        ("setget", [text]) => ask(default, SET_AND_GET, text),
        ("setget", [text, endpoint]) => ask(endpoint, SET_AND_GET, text),
        _ => return finish("getset", USAGE, None),
    };
    finish("getset", USAGE, Some(result))
}

fn serve(endpoints: &[OsString]) -> Result<(), Box<dyn Error>> {
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
    server.stop_on_signals()?;
    let printer = Printer::new()?;
    let mut lines = String::new();
    for text in endpoints {
        let endpoint = Endpoint::try_from(text)?;
        // The same user's processes only, wherever the system can tell users apart.
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        let bound = server.listen(Listen::from(endpoint).access(access))?;
        lines += &format!("listening {bound}\n");
    }
    printer.print(lines);
    server.run()?;
    Ok(())
}

/// Sends one request and prints what comes back.
fn ask(at: &OsStr, msg_type: u16, text: &OsStr) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let client: Client = Connect::to(&endpoint)?.access(access).open()?;
    let payload = client.call(msg_type, text.as_encoded_bytes())?.into_payload();
    if msg_type != SET {
        print(format!("{}\n", String::from_utf8_lossy(&payload)))?;
    }
    Ok(())
}

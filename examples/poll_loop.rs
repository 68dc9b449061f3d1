//! A server in a loop of the program's own, which waits with poll(2) for the server and for its standard input.
//!
//!     poll_loop [ENDPOINT]
//!
//! The last line that was typed is the value, and type 1 reads it: `sidewire call local:poll-loop 1`.

#[cfg(unix)]
mod support;

#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    eprintln!("poll_loop: there is no poll(2) here; a server has a thread of its own: see Server::spawn");
    std::process::ExitCode::from(2)
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::ffi::{OsStr, OsString};
    use std::process::ExitCode;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use sidewire::{Access, Endpoint, Listen, Server};

    use crate::support::{Printer, finish};

    const GET: u16 = 1;
    const USAGE: &str = "usage: poll_loop [ENDPOINT]";

    pub(super) fn main() -> ExitCode {
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
        let args: Vec<OsString> = std::env::args_os().skip(1).collect();
        let result = match &args[..] {
            [] => serve(OsStr::new("local:poll-loop")),
            [endpoint] => serve(endpoint),
            _ => return finish("poll_loop", USAGE, None),
        };
        finish("poll_loop", USAGE, Some(result))
    }

    fn serve(at: &OsStr) -> Result<(), Box<dyn Error>> {
        let mut server = Server::new(Vec::new());
        server.on(GET, |value: &mut Vec<u8>, _request, reply| {
            reply.write(value);
            Ok(())
        });
        server.stop_on_signals()?;
        let endpoint = Endpoint::try_from(at)?;
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        let bound = server.listen(Listen::from(&endpoint).access(access))?;
        let printer = Printer::new()?;
        printer.print(format!("listening {bound}\n"));

        let clients = server.poll_descriptor()?;
        let (mut input, mut line) = (Some(std::io::stdin()), Vec::new());
        loop {
            // A descriptor for each, and no longer than until the server is due anyway.
            let timeout = server.next_timeout().map(Timespec::try_from).transpose()?;
            let mut watched = vec![PollFd::new(&clients, PollFlags::IN)];
            watched.extend(input.as_ref().map(|input| PollFd::new(input, PollFlags::IN)));
            match poll(&mut watched, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_typed = watched.get(1).is_some_and(|input| !input.revents().is_empty());
            if is_typed {
                let mut typed = [0; 1024];
                match input.as_ref().map_or(Ok(0), |input| rustix::io::read(input, &mut typed))? {
                    0 => input = None,
                    count => line.extend_from_slice(&typed[..count]),
                }
                while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    let rest = line.split_off(end + 1);
                    *server.state_mut() = std::mem::replace(&mut line, rest).trim_ascii().to_vec();
                }
            }
            // Whatever woke us: a turn without anything to do costs one system call.
            if !server.turn(Some(Duration::ZERO))? {
                return Ok(());
            }
        }
    }
}

//! A server in calloop's loop, beside a timer; and a client whose events come to such a loop.
//!
//!     calloop serve [ENDPOINT]
//!     calloop watch [ENDPOINT]      (prints what the server tells, ten times a second)

#[cfg(unix)]
mod support;

#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    eprintln!("calloop: there is no such loop here; a server has a thread of its own: see Server::spawn");
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

    use calloop::generic::Generic;
    use calloop::timer::{TimeoutAction, Timer};
    use calloop::{EventLoop, Interest, Mode, PostAction, ping};
    use sidewire::{Access, Connect, Endpoint, Listen, Server, WhenSlow};

    use crate::support::{Printer, finish, print};

    /// A topic.
    const TICK: u16 = 1;
    const PERIOD: Duration = Duration::from_millis(100);
    const USAGE: &str = "usage: calloop serve|watch [ENDPOINT]";

    pub(super) fn main() -> ExitCode {
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
        let args: Vec<OsString> = std::env::args_os().skip(1).collect();
        let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
        let endpoint = args.get(1).map_or(OsStr::new("local:calloop"), |endpoint| endpoint);
        let result = match (command, args.len()) {
            ("serve", ..=2) => serve(endpoint),
            ("watch", ..=2) => watch(endpoint),
            _ => return finish("calloop", USAGE, None),
        };
        finish("calloop", USAGE, Some(result))
    }

    fn serve(at: &OsStr) -> Result<(), Box<dyn Error>> {
        let mut server = Server::new(0_u32);
        server.topic(TICK, WhenSlow::DropNewest);
        server.stop_on_signals()?;
        let endpoint = Endpoint::try_from(at)?;
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        let bound = server.listen(Listen::from(&endpoint).access(access))?;
        let printer = Printer::new()?;
        printer.print(format!("listening {bound}\n"));

        let mut event_loop = EventLoop::<Server<u32>>::try_new()?;
        let clients = Generic::new(server.poll_descriptor()?, Interest::READ, Mode::Level);
        event_loop.handle().insert_source(clients, |_, _, _| Ok(PostAction::Continue))?;
        let remote = server.remote()?;
        let tick = move |_, _: &mut (), server: &mut Server<u32>| {
            *server.state_mut() += 1;
            if let Err(error) = remote.publish(TICK, server.state().to_string()) {
                log::warn!("{error}");
            }
            TimeoutAction::ToDuration(PERIOD)
        };
        event_loop.handle().insert_source(Timer::from_duration(PERIOD), tick)?;
        // Whatever woke the loop: a turn without anything to do costs one system call.
        while server.turn(Some(Duration::ZERO))? {
            event_loop.dispatch(server.next_timeout(), &mut server)?;
        }
        Ok(())
    }

    fn watch(at: &OsStr) -> Result<(), Box<dyn Error>> {
        let mut event_loop = EventLoop::<()>::try_new()?;
        let (news, has_come) = ping::make_ping()?;
        event_loop.handle().insert_source(has_come, |_, &mut (), &mut ()| {})?;
        let endpoint = Endpoint::try_from(at)?;
        let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
        let client = Connect::to(&endpoint)?.access(access).on_arrival(move || news.ping()).open()?;
        let mut ticks = client.subscribe(TICK)?;
        client.spawn_reader()?;
        loop {
            // Until there are no more: then the next one pings again.
            while let Some(tick) = ticks.next_timeout(Duration::ZERO)? {
                print(format!("{}\n", String::from_utf8_lossy(tick.payload())))?;
            }
            event_loop.dispatch(None, &mut ())?;
        }
    }
}

//! `sidewire serve`: hosts the built-in store.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sidewire::{
    Access, App, Endpoint, EndpointKind, Error, Group, Limits, Listen, Server, ServerBuilder, Sid, Token,
    User,
};

use crate::output::{self, complain};
use crate::{Who, store};

/// Hosts a small store for clients to try: get, set, set-and-get, echo and more
///
/// The store holds one value, at first `hello, this is server!`, and knows these types:
/// 1 get, 2 set, 3 set-and-get (answers with the value from before), 4 echo, 5 statistics (JSON),
/// 6 sleep (so many milliseconds), 7 count (up to a number, each in a part of the reply), 8 call me back
/// (calls a type on the caller's connection, and answers with what came back). The payload of 6 to 8 is
/// that number, in decimal text. Type 1 is a topic, too: each new value is an event.
/// Types 0 and 9 to 15 have no handler (-2), types from 16 on are unknown (-1).
///
/// When all endpoints are open it prints a line `listening ENDPOINT` for each, with the address
/// really bound. It serves until Ctrl-C, SIGTERM or SIGHUP (those that are ignored when it starts, as
/// nohup does, stay ignored), until nobody needs it (--exit-when-idle), or until another takes over
/// (--take-over), and leaves no file behind. A second signal ends it at once.
///
/// With --activated it serves on the sockets that systemd, or another service manager that does as it does, has
/// opened for it (LISTEN_FDS), besides ENDPOINT if one is given. The manager is told when it is ready and when it
/// stops, where NOTIFY_SOCKET says so: docs/systemd has units to begin with.
///
/// Exit status: 0 stopped; whether anybody could read what it prints makes no difference
///              1 an endpoint could not be opened, there are no sockets for --activated, or the system failed
///              2 usage: a bad endpoint or argument
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Where to listen: local:NAME, unix:/PATH, abstract:NAME, pipe:NAME, unixgram:/PATH,
    /// abstractgram:NAME, mailslot:NAME, udp:HOST:PORT (which needs --access anyone), tcp:HOST:PORT
    /// (which needs that, or --token-file)
    #[arg(value_name = "ENDPOINT", value_parser = crate::endpoint_parser(), default_value = "local:sidewire",
          default_value_if("activated", "true", None), verbatim_doc_comment)]
    endpoints: Vec<Endpoint>,
    /// Serve on the sockets that a service manager has opened (not on Windows)
    #[arg(long)]
    activated: bool,
    /// Most bytes of payload of classic clients, either way [default: 1024]
    #[arg(long, value_name = "N", conflicts_with = "classic_fixed",
          value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    classic_max: Option<u32>,
    /// Classic requests and replies are exactly 12 + N bytes long
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    classic_fixed: Option<u32>,
    /// Who may connect, to every endpoint of this command
    #[arg(long, value_name = "WHO", default_value = "same-user")]
    access: Who,
    /// Let this user's processes connect, too: a uid, or on Windows a SID; said again, more of them
    #[arg(long, value_name = "USER", value_parser = user)]
    allow_user: Vec<User>,
    /// Let members of this group connect, too: a gid, or on Windows a SID; said again, more of them
    #[arg(long, value_name = "GROUP", value_parser = group)]
    allow_group: Vec<Group>,
    /// Of all who may connect, let in only those that run this program (an absolute path). It keeps
    /// programs apart, not those who run them: the same user may trace it, or put code into it
    #[arg(long, value_name = "PATH", verbatim_doc_comment)]
    allow_program: Option<PathBuf>,
    /// Let tcp and udp bind addresses that other machines may reach, as 0.0.0.0; nothing is
    /// encrypted. Classic clients are refused there without --classic-max or --classic-fixed
    #[arg(long, verbatim_doc_comment)]
    beyond_loopback: bool,
    /// Stop when no client was connected for so long; at first it is waited for one for 5 s at least
    #[arg(long, value_name = "SECONDS", value_parser = idle_seconds)]
    exit_when_idle: Option<Duration>,
    /// Serve only clients that prove that they know the key in this file, and prove the same to
    /// them; it is created, for this user alone, if it is not there. For streams, and without the
    /// classic layout; '--token-file FILE' of the other commands uses it
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    token_file: Option<PathBuf>,
    /// Look for requests for so many microseconds before sleeping, which takes a whole processor;
    /// for clients that do the same, as ping --spin does
    #[arg(long, value_name = "MICROSECONDS", verbatim_doc_comment,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    spin: Option<u32>,
    /// Take the endpoint over from a `serve --take-over` of no newer version that runs there, and
    /// leave it to the next one; clients that reconnect go on. Not over tcp, nor with datagrams
    #[arg(long, conflicts_with = "activated", verbatim_doc_comment)]
    take_over: bool,
    /// Keep no file from which others can read what the server does: see sidewire recorder
    #[arg(long)]
    no_recorder: bool,
}

/// How long that may take, and then what the older one has accepted.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Unlike a time limit, this may be 0.
fn idle_seconds(text: &str) -> Result<Duration, String> {
    if text.parse() == Ok(0.0) { Ok(Duration::ZERO) } else { crate::call::seconds(text) }
}

fn user(text: &str) -> Result<User, String> {
    text.parse().map(User::Uid).or_else(|_| sid(text).map(User::Sid))
}

fn group(text: &str) -> Result<Group, String> {
    text.parse().map(Group::Gid).or_else(|_| sid(text).map(Group::Sid))
}

/// `S-1-5-32-545`.
fn sid(text: &str) -> Result<Sid, String> {
    let parse = || {
        let mut numbers = text.strip_prefix("S-1-")?.split('-');
        let authority = numbers.next()?.parse().ok()?;
        let sub_authorities: Vec<u32> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
        Sid::new(authority, &sub_authorities)
    };
    parse().ok_or_else(|| "expected a number as in 'id -u' and 'id -g', or a SID as in S-1-5-32-545".into())
}

/// Who may connect.
fn access(args: &Args) -> Access {
    let mut access = Access::from(args.access);
    if !args.allow_user.is_empty() {
        access = access.or_users(args.allow_user.clone());
    }
    if !args.allow_group.is_empty() {
        access = access.or_groups(args.allow_group.clone());
    }
    match &args.allow_program {
        Some(path) => access.and_program(path),
        None => access,
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    if let Some(objection) = objection(args) {
        complain(&objection);
        return ExitCode::from(2);
    }
    // Before anything else opens descriptors.
    let places = match places(args) {
        Ok(places) => places,
        Err(why) => {
            complain(&why);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = sidewire_platform::raise_descriptor_limit() {
        log::info!("the limit of open descriptors stays as it is: {error}");
    }
    // Before the first endpoint is open: a signal that comes meanwhile must not leave its file.
    let made = store::server_with(|builder| limited(gives_way(builder.may_be_stopped(), args), args))
        .and_then(|mut server| {
            server.stop_on_signals()?;
            args.exit_when_idle.map_or(Ok(()), |after| server.exit_when_idle(after)).map(|()| server)
        });
    let mut server = match made {
        Ok(server) => server,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = places.into_iter().try_for_each(|place| listen(&mut server, place, args)) {
        complain(&error);
        let is_usage = error.is_unsupported() || error.is_invalid_input();
        return ExitCode::from(if is_usage { 2 } else { 1 });
    }
    server.notify_service_manager();
    announce(server.endpoints().iter().map(|endpoint| format!("listening {endpoint}\n")).collect());
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Of the app by which servers with this option know each other.
fn gives_way(builder: ServerBuilder<Vec<u8>>, args: &Args) -> ServerBuilder<Vec<u8>> {
    match args.take_over {
        true => builder.app(App::new("sidewire serve", env!("CARGO_PKG_VERSION"))).gives_way(TAKE_OVER),
        false => builder,
    }
}

fn limited(builder: ServerBuilder<Vec<u8>>, args: &Args) -> ServerBuilder<Vec<u8>> {
    let mut limits = Limits::default();
    limits.spin = Duration::from_micros(args.spin.unwrap_or(0).into());
    let builder = builder.limits(limits);
    if args.no_recorder { builder.without_recording() } else { builder }
}

/// Why it can't be served as the arguments say.
fn objection(args: &Args) -> Option<String> {
    let unverified = args.endpoints.iter().find(|endpoint| !endpoint.has_credentials());
    if let (Some(endpoint), Who::SameUser, None) = (unverified, args.access, &args.token_file) {
        return Some(format!(
            "{endpoint}: nobody vouches for who connects here; add '--token-file FILE', \
             or '--access anyone' if every process of this machine may"
        ));
    }
    let has_host = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Tcp { .. } | Endpoint::Udp { .. });
    if args.beyond_loopback && !args.activated && !args.endpoints.iter().any(has_host) {
        return Some("--beyond-loopback is for tcp and udp, and there is none among the endpoints".into());
    }
    None
}

/// Where to serve: what a service manager has opened, if that is asked for, and the endpoints.
fn places(args: &Args) -> Result<Vec<Listen>, String> {
    let mut places = Vec::new();
    if args.activated {
        places = Listen::activated().map_err(|error| error.to_string())?;
        if places.is_empty() {
            return Err(
                "--activated: no service manager has opened sockets for this process (LISTEN_FDS)".into()
            );
        }
    }
    places.extend(args.endpoints.iter().map(|endpoint| {
        let can_be_taken_over = endpoint.has_credentials() && endpoint.kind() == EndpointKind::Stream;
        match args.take_over && can_be_taken_over {
            true => Listen::from(endpoint).take_over(TAKE_OVER),
            false => Listen::from(endpoint),
        }
    }));
    Ok(places)
}

fn listen<S>(server: &mut Server<S>, listen: Listen, args: &Args) -> Result<(), Error> {
    let mut listen = listen.access(access(args));
    if let Some(file) = &args.token_file {
        listen = listen.token(Token::file(file));
    }
    if let Some(bytes) = args.classic_max {
        listen = listen.classic_max(bytes);
    }
    if let Some(bytes) = args.classic_fixed {
        listen = listen.classic_fixed(bytes);
    }
    if args.beyond_loopback {
        listen = listen.beyond_loopback();
    }
    server.listen(listen).map(|_| ())
}

/// Prints lines on a thread of its own: that nobody reads them is no reason not to serve.
pub(crate) fn announce(lines: String) {
    let printing = thread::Builder::new().name("announce".into());
    if let Err(error) = printing.spawn(move || output::print(lines.as_bytes())) {
        complain(&format!("start a thread: {error}"));
    }
}

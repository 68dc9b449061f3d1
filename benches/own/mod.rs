//! Sidewire's own two sides for the benches: a server with the handlers that they need, and its client under load.
//! Both are roles of whichever program has this module.

pub(crate) mod calling;
pub(crate) mod serving;

pub(crate) const USAGE: &str = "\
serve ENDPOINT [--waste system-call|allocation]
call SHAPE ENDPOINT [--requests N] [--size N] [--window N] [--type N] [--spin]

serve  prints `listening ENDPOINT` and serves until SIGTERM: type 2 is an event of topic 1 for all, 4 echo, 5 echo by
       another thread. --waste: one more for each request than there need be, which a guard must see
call   sequential: one request after the other; window: --window of them started, then each reply waited for. --spin:
       looks for a reply for a millisecond before it sleeps. Prints one line of JSON, as floor-client does
";

pub(crate) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Plays the role that the arguments name, if they name one.
pub(crate) fn play(arguments: &[String]) -> Option<Result<()>> {
    let (role, rest) = arguments.split_first()?;
    match role.as_str() {
        "serve" => Some(serving::run(rest)),
        "call" => Some(calling::run(rest)),
        _ => None,
    }
}

/// What follows an option of this name, or else the default.
fn option<T>(arguments: &[String], name: &str, default: T) -> Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + 'static>,
{
    let Some(at) = arguments.iter().position(|argument| argument == name) else { return Ok(default) };
    Ok(arguments.get(at + 1).ok_or_else(|| format!("{name} wants a value"))?.parse()?)
}

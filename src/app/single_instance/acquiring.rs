//! The way to be the instance, or to hand over to it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire_platform::{Claim, Credentials, Endpoint, Holder, InstanceLock, allow_foreground};

use super::activation::{Activation, MAX_BYTES};
use super::queue::{Door, Queue};
use super::{Acquired, OtherInstance, SingleInstance, SingleInstanceBuilder};
use crate::client::Connect;
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::limits::Limits;
use crate::maker::Maker;
use crate::server::{Listen, Server};
use sidewire_wire::{Failure, ResultCode};

/// The one type that an instance serves.
const ACTIVATE: u16 = 1;

/// Most characters of an app's name: with `.instance` behind it, it is one of an endpoint.
const MAX_APP: usize = 55;

/// How long of the time that there is an activation that nobody has taken may take to be withdrawn.
const WITHDRAWING: Duration = Duration::from_secs(2);

const BECOME: &str = "become the one instance";
const HAND_OVER: &str = "hand over to the instance";

pub(super) fn acquire(options: SingleInstanceBuilder) -> Result<Acquired> {
    check_app(&options.app)?;
    let payload = Activation::of_this_process(&options).encode();
    if payload.len() > MAX_BYTES {
        let text = format!(
            "arguments, working folder and environment have {} bytes together; an activation has at most \
             {MAX_BYTES}",
            payload.len()
        );
        return Err(Error::invalid(HAND_OVER, &text));
    }
    let system = |error| Error::system(BECOME, error);
    let endpoint = InstanceLock::endpoint(&options.app).map_err(system)?;
    let mut patience = Patience::new(options.deadline);
    // Whatever is found may be about to end, or about to begin. So this goes round until it is settled.
    loop {
        let unserved = match InstanceLock::claim(&options.app) {
            Ok(Claim::Ours(lock)) => match serve(lock, &endpoint) {
                Ok(instance) => return Ok(Acquired::First(instance)),
                Err(error) => Some(error),
            },
            Ok(Claim::OutOfReach(holder)) => return Err(out_of_reach(&endpoint, &holder)),
            Ok(_) => None,
            Err(error) => return Err(Error::os(BECOME, &endpoint, error)),
        };
        let passing = match unserved {
            // By what is left of the one before, say.
            Some(error) if !error.is_in_use() => error,
            // Or by somebody who knows nothing of the lock, and tells us so.
            _ => match hand_over(&endpoint, &payload, &patience) {
                Ok(other) => return Ok(Acquired::Other(other)),
                Err(error) => error,
            },
        };
        if !may_pass(&passing) {
            return Err(passing);
        }
        log::debug!("{endpoint}: not settled yet: {passing}");
        if !patience.pause() {
            return Err(unsettled(&endpoint, passing, options.deadline));
        }
    }
}

fn check_app(app: &str) -> Result<()> {
    let is_name = app.len() <= MAX_APP
        && format!("local:{app}")
            .parse()
            .is_ok_and(|endpoint: Endpoint| endpoint == Endpoint::Local(app.into()));
    if is_name {
        return Ok(());
    }
    let text = format!(
        "'{}' is no name of an app: that has 1 to {MAX_APP} ASCII letters, digits, '.', '_' and '-', does not begin \
         with '.' or '-', and does not end with '.'",
        app.escape_debug()
    );
    Err(Error::invalid(BECOME, &text))
}

/// Begins to take activations.
fn serve(lock: InstanceLock, endpoint: &Endpoint) -> Result<SingleInstance> {
    let mut limits = Limits::default();
    limits.listener.connection.max_payload = MAX_BYTES as u32;
    let mut server = Server::builder(()).types(usize::from(ACTIVATE) + 1).limits(limits).build()?;
    let queue = Arc::new(Queue::default());
    let door = Door(Arc::clone(&queue));
    server.on(ACTIVATE, move |(), request, reply| {
        let pid = request.peer().credentials().and_then(Credentials::pid);
        let activation = Activation::decode(request.payload(), pid)
            .map_err(|why| Failure::new(ResultCode::MALFORMED, why.to_string()))?;
        door.0.admit(&activation)?;
        door.0.push(activation, reply.defer()?);
        Ok(())
    });
    let listen = Listen::from(endpoint).without_classic().pending_instances(16);
    let endpoint = server.listen(listen)?;
    let server = server.spawn()?;
    Ok(SingleInstance { queue, endpoint, maker: Maker::here(), _server: server, _lock: lock })
}

/// Tells the instance what we were started with, and waits until it has taken that.
fn hand_over(endpoint: &Endpoint, payload: &[u8], patience: &Patience) -> Result<OtherInstance> {
    let client = Connect::at(endpoint.clone()).without_choice().timeout(patience.left()).open();
    let client = client.map_err(|error| hung(error, "it may hang, or have been stopped"))?;
    let pid = client.peer().credentials().and_then(Credentials::pid);
    if let Some(pid) = pid {
        let allowed = allow_foreground(pid);
        log::trace!("process {pid} may put its window in front: {allowed}");
    }
    let other = OtherInstance { pid };
    let call = client.request(ACTIVATE).timeout(patience.left()).start(payload);
    let mut call = call.map_err(|error| hung(error, "it takes nothing"))?;
    let in_time = match patience.left() {
        // The rest is for the instance to say that it has forgotten it.
        Some(left) => call.wait_timeout(left - (left / 4).min(WITHDRAWING)),
        None => return call.wait().map(|_| other),
    };
    if let Some(taken) = in_time {
        return taken.map(|_| other);
    }
    call.cancel();
    match call.wait() {
        Ok(_) => Ok(other),
        Err(error) if is_withdrawn(&error) => Err(hung(
            error,
            &format!("{other}, answers, but its app has not taken the activation, which is withdrawn"),
        )),
        Err(error) => {
            Err(hung(error, &format!("{other}, does not answer any more, and may still take the activation")))
        }
    }
}

/// Whether the instance has said that nobody took it, and that nobody will.
fn is_withdrawn(error: &Error) -> bool {
    error.result_code().is_some_and(|rc| [ResultCode::CANCELLED, ResultCode::TIMED_OUT].contains(&rc))
}

/// Of a handing over whose time was up: whoever is there hangs, or its app does.
fn hung(error: Error, what: &str) -> Error {
    if !error.is_timeout() && !is_withdrawn(&error) {
        return error;
    }
    match error.endpoint() {
        Some(endpoint) => {
            Error::new(HAND_OVER, endpoint, Kind::Hung).with_note(|_| format!("{what} ({error})"))
        }
        None => error,
    }
}

/// Whether it may be otherwise in a moment: the instance has just ended, or has yet to listen.
fn may_pass(error: &Error) -> bool {
    const PASSING: [ResultCode; 2] = [ResultCode::SHUTTING_DOWN, ResultCode::BUSY];
    if let Some(rc) = error.result_code() {
        return PASSING.contains(&rc);
    }
    match error.refused_by() {
        Some(RefusedBy::Server(rc)) => PASSING.contains(&rc),
        Some(_) => false,
        None => {
            !(error.is_timeout()
                || error.is_invalid_input()
                || error.is_unsupported()
                || error.is_version_mismatch()
                || error.is_protocol())
        }
    }
}

/// The time is up: whoever holds the name does nothing with it, or the system has failed us.
fn unsettled(endpoint: &Endpoint, last: Error, deadline: Duration) -> Error {
    let is_others = last.is_not_listening() || last.is_peer_gone() || last.is_in_use() || last.is_refused();
    if !is_others && last.result_code().is_none() {
        return last;
    }
    Error::new(HAND_OVER, endpoint, Kind::Hung)
        .with_note(|_| format!("for {deadline:?} it was neither to be had nor to be reached ({last})"))
}

fn out_of_reach(endpoint: &Endpoint, holder: &Holder) -> Error {
    let (by, why) = match holder {
        Holder::Elevated(level) => {
            let why = format!(
                "the instance that runs is elevated (its integrity level is {level:#x}), this is not"
            );
            (RefusedBy::Elevated, why)
        }
        Holder::OtherUser(Some(user)) => {
            (RefusedBy::System, format!("the one that runs belongs to another user ({user})"))
        }
        _ => (RefusedBy::System, "the one that runs belongs to another user".into()),
    };
    Error::new(HAND_OVER, endpoint, Kind::Refused { by, why })
}

/// How long it may still take, and how long to wait between two looks.
struct Patience {
    /// `None`: beyond what the clock can express.
    deadline: Option<Instant>,
    pause: Duration,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    fn new(within: Duration) -> Patience {
        Patience { deadline: Instant::now().checked_add(within), pause: Patience::FIRST }
    }

    /// What is left of it, for one attempt: never nothing, since the last one begins when the time is up.
    fn left(&self) -> Option<Duration> {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.deadline.map(|deadline| left(deadline).max(Patience::FIRST))
    }

    /// Waits a little before the next attempt. False: the time is up.
    fn pause(&mut self) -> bool {
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return false;
        }
        thread::sleep(self.left().map_or(self.pause, |left| left.min(self.pause)));
        self.pause = (self.pause * 2).min(Patience::LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::single_instance::DEADLINE;

    #[test]
    fn names_of_apps_are_those_of_endpoints() {
        for fine in ["a", "com.example.app", "Com.Example.App-2_beta", &"x".repeat(MAX_APP)] {
            assert!(check_app(fine).is_ok(), "{fine}");
            // So no name of an app is refused later.
            assert!(format!("local:{fine}.instance").parse::<Endpoint>().is_ok(), "{fine}");
        }
        let long = "x".repeat(MAX_APP + 1);
        for bad in ["", ".", "..", "a/b", r"a\b", "a b", "-a", ".a", "a.", "caf\u{e9}", "a\0", "a\n", &long] {
            let error = check_app(bad).expect_err(bad);
            assert!(error.is_invalid_input(), "{error}");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let endpoint = Endpoint::Local("app.instance".into());
        let of = |kind| Error::new(HAND_OVER, &endpoint, kind);
        let refused = |by| of(Kind::Refused { by, why: String::new() });
        for passing in [
            of(Kind::NotListening),
            of(Kind::InUse),
            of(Kind::Os),
            refused(RefusedBy::Server(ResultCode::SHUTTING_DOWN)),
            refused(RefusedBy::Server(ResultCode::BUSY)),
        ] {
            assert!(may_pass(&passing), "{passing}");
        }
        for lasting in [
            of(Kind::Hung),
            of(Kind::Protocol("not Sidewire".into())),
            refused(RefusedBy::Server(ResultCode::NOT_PERMITTED)),
            refused(RefusedBy::System),
            refused(RefusedBy::OurAccess),
            refused(RefusedBy::Elevated),
        ] {
            assert!(!may_pass(&lasting), "{lasting}");
        }
    }

    #[test]
    fn what_does_not_pass_in_time_is_somebody_who_hangs_or_the_system() {
        let endpoint = Endpoint::Local("app.instance".into());
        let after = |kind| unsettled(&endpoint, Error::new(HAND_OVER, &endpoint, kind), DEADLINE);
        assert!(after(Kind::NotListening).is_hung() && after(Kind::InUse).is_hung());
        assert!(!after(Kind::Os).is_hung());
    }

    #[test]
    fn who_is_out_of_reach_is_said() {
        let endpoint = Endpoint::Local("app.instance".into());
        let elevated = out_of_reach(&endpoint, &Holder::Elevated(0x3000));
        assert_eq!(elevated.refused_by(), Some(RefusedBy::Elevated));
        assert!(
            elevated.to_string().contains("elevated") && elevated.to_string().contains("0x3000"),
            "{elevated}"
        );
        let other = out_of_reach(&endpoint, &Holder::OtherUser(None));
        assert_eq!(other.refused_by(), Some(RefusedBy::System));
        assert!(other.to_string().contains("another user"), "{other}");
    }
}

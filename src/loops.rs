//! Which servers the current thread is serving right now, so that a handler that would wait for its
//! own server is told so instead.

use std::cell::RefCell;
use std::sync::Arc;

use sidewire_platform::{Address, Credentials, Endpoint, Peer};

use crate::error::{Error, Kind};

/// Where a server serves.
pub(crate) type Served = Vec<ServedAt>;

/// One of its endpoints, as bound.
#[derive(Clone, Debug)]
pub(crate) struct ServedAt {
    pub(crate) endpoint: Endpoint,
    /// Where it has one.
    pub(crate) address: Option<Address>,
    /// Somebody else has opened it, whom the system names in this process' place.
    pub(crate) is_adopted: bool,
}

thread_local! {
    /// One entry for each server that this thread is serving; more than one if a handler turns
    /// another server.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is const; Clippy errs where the system's keys are used")]
    static SERVING: RefCell<Vec<Arc<Served>>> = const { RefCell::new(Vec::new()) };
}

/// What is told whoever would wait for ever.
#[cold]
pub(crate) fn waits_for_itself(operation: &'static str, endpoint: &Endpoint) -> Error {
    Error::new(operation, endpoint, Kind::InvalidInput(WAITS_FOR_ITSELF.into()))
}

const WAITS_FOR_ITSELF: &str = "a handler of that very server asks, which answers nobody before the handler \
     has returned; ask from another thread";

/// This thread serves a server's clients until this is dropped.
#[must_use]
pub(crate) struct Serving(());

/// Begins to serve the clients of a server that is there: for a turn, or for all that follow.
pub(crate) fn begin_serving(served: &Arc<Served>) -> Serving {
    SERVING.with_borrow_mut(|serving| serving.push(Arc::clone(served)));
    Serving(())
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVING.with_borrow_mut(|serving| serving.pop());
    }
}

/// Whether this thread serves anybody.
#[inline]
pub(crate) fn is_serving() -> bool {
    SERVING.try_with(|serving| !serving.borrow().is_empty()).unwrap_or(false)
}

/// Whether this thread serves for the server at `endpoint`. `address` is asked for that server's
/// address, unless it is known without.
pub(crate) fn serves(endpoint: &Endpoint, address: impl FnOnce() -> Option<Address>) -> bool {
    serves_at(endpoint, address, |_| true)
}

/// The same of those of its endpoints that come into question.
fn serves_at(
    endpoint: &Endpoint,
    address: impl FnOnce() -> Option<Address>,
    may_be: impl Fn(&ServedAt) -> bool,
) -> bool {
    // A thread that is about to end has no such list any more, and serves nobody.
    let is_served = |serving: &RefCell<Vec<Arc<Served>>>| {
        let serving = serving.borrow();
        if serving.is_empty() {
            return false;
        }
        let mut served = serving.iter().flat_map(|served| served.iter()).filter(|at| may_be(at));
        if served.clone().any(|at| at.endpoint == *endpoint) {
            return true;
        }
        let Some(address) = address() else { return false };
        served.any(|at| at.address.as_ref().is_some_and(|bound| is_at(bound, &address)))
    };
    SERVING.try_with(is_served).unwrap_or(false)
}

/// The same of a server that we are connected to.
#[inline]
pub(crate) fn serves_peer(
    peer: &Peer,
    endpoint: &Endpoint,
    address: impl FnOnce() -> Option<Address>,
) -> bool {
    if !is_serving() {
        return false; // As nearly all threads, of which the system need not be asked.
    }
    let pid = peer.credentials().and_then(Credentials::pid);
    let is_this_process = pid.is_none_or(|pid| pid == std::process::id());
    serves_at(endpoint, address, |at| is_this_process || at.is_adopted)
}

/// Whether who connects to `asked` reaches the socket that is bound to `bound`.
fn is_at(bound: &Address, asked: &Address) -> bool {
    match (bound, asked) {
        (Address::Inet(bound), Address::Inet(asked)) => {
            let is_every_address = bound.ip().is_unspecified() && asked.ip().is_loopback();
            bound.port() == asked.port()
                && bound.is_ipv4() == asked.is_ipv4()
                && (bound.ip() == asked.ip() || is_every_address)
        }
        (Address::Unnamed, _) => false,
        (bound, asked) => bound == asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(text: &str) -> Address {
        Address::Inet(text.parse().expect("an address"))
    }

    #[test]
    fn a_server_is_known_by_endpoint_or_address_while_it_serves() {
        let bound: Endpoint = "tcp:0.0.0.0:4711".parse().expect("an endpoint");
        let other: Endpoint = "tcp:localhost:4711".parse().expect("an endpoint");
        let address = Some(inet("0.0.0.0:4711"));
        let served = Arc::new(vec![ServedAt { endpoint: bound.clone(), address, is_adopted: false }]);
        let serves_other = |address: &str| serves(&other, || Some(inet(address)));
        assert!(!serves(&bound, || None));
        let serving = begin_serving(&served);
        assert!(serves(&bound, || None));
        assert!(serves_other("127.0.0.1:4711"));
        for elsewhere in ["127.0.0.1:4712", "192.0.2.1:4711", "[::1]:4711"] {
            assert!(!serves_other(elsewhere), "{elsewhere}");
        }
        let nested = begin_serving(&Arc::default());
        assert!(serves(&bound, || None));
        drop((nested, serving));
        assert!(!serves(&bound, || None));
    }

    /// Whom the system names is who has opened its socket.
    #[test]
    fn of_an_adopted_socket_the_pid_says_nothing() {
        let credentials = Credentials::new(sidewire_platform::User::Uid(1000), Some(1), None);
        let (peer, endpoint) =
            (Peer::new(Some(credentials), None), "abstract:x".parse::<Endpoint>().expect("one"));
        for is_adopted in [false, true] {
            let at = ServedAt { endpoint: endpoint.clone(), address: None, is_adopted };
            let serving = begin_serving(&Arc::new(vec![at]));
            assert_eq!(serves_peer(&peer, &endpoint, || None), is_adopted);
            drop(serving);
        }
    }

    #[test]
    fn nameless_ends_are_not_the_same() {
        assert!(!is_at(&Address::Unnamed, &Address::Unnamed));
        assert!(is_at(&Address::Path("/x".into()), &Address::Path("/x".into())));
    }
}

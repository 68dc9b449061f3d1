//! Who holds how many of a listener's places.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use sidewire_platform::{Peer, User};

use crate::access::OwnIdentity;

/// Those who may only have a share of the places, and what they have.
#[derive(Debug)]
pub(crate) struct Parties {
    /// The share.
    most: usize,
    held: RefCell<HashMap<Party, usize>>,
}

/// All peers that count as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Party {
    User(User),
    /// An IPv4 address, or the first half of an IPv6 address: one customer has all of the other. This
    /// machine counts as one, since each of its users has sixteen million loopback addresses to call from.
    Address(IpAddr),
    Unknown,
}

impl Party {
    /// `None`: our own user and the system's, where the kernel names them.
    fn of(peer: &Peer, us: &OwnIdentity) -> Option<Party> {
        match (peer.credentials(), peer.address()) {
            (Some(credentials), _) if us.is_one_of_us(credentials.user()) => None,
            (Some(credentials), _) => Some(Party::User(credentials.user().clone())),
            (None, Some(address)) => Some(Party::Address(match address.ip().to_canonical() {
                ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
                ip => ip,
            })),
            (None, None) => Some(Party::Unknown),
        }
    }
}

impl Parties {
    pub(crate) fn new(most: usize) -> Parties {
        Parties { most, held: RefCell::default() }
    }

    /// Gives a peer one more place; to be given back by [`leave`](Parties::leave).
    ///
    /// # Errors
    /// How many it has, if that is its share.
    pub(crate) fn enter(&self, peer: &Peer, us: &OwnIdentity) -> Result<(), usize> {
        let Some(party) = Party::of(peer, us).filter(|_| self.most < usize::MAX) else { return Ok(()) };
        let mut all = self.held.borrow_mut();
        let held = all.get(&party).copied().unwrap_or(0);
        if held >= self.most || all.try_reserve(1).is_err() {
            return Err(held);
        }
        all.insert(party, held + 1);
        Ok(())
    }

    pub(crate) fn leave(&self, peer: &Peer, us: &OwnIdentity) {
        let Some(party) = Party::of(peer, us) else { return };
        let mut all = self.held.borrow_mut();
        if let Some(held) = all.get_mut(&party) {
            *held -= 1;
            if *held == 0 {
                all.remove(&party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Peer {
        Peer::new(None, Some(address.parse().expect("an address")))
    }

    #[test]
    fn each_party_has_a_share() {
        let us = OwnIdentity::look_up().expect("who we are");
        let parties = Parties::new(2);
        let enter = |address: &str| parties.enter(&at(address), &us);
        assert_eq!([1, 2, 3].map(|port| enter(&format!("10.0.0.1:{port}"))), [Ok(()), Ok(()), Err(2)]);
        assert_eq!(enter("[::ffff:10.0.0.1]:4"), Err(2));
        assert_eq!(enter("10.0.0.2:1"), Ok(()));
        assert_eq!(["[fe80::1]:1", "[fe80::2]:1", "[fe80::3]:1"].map(enter), [Ok(()), Ok(()), Err(2)]);
        assert_eq!(enter("[fe80:0:0:1::1]:1"), Ok(()));
        let loopback = ["127.0.0.1:1", "127.9.8.7:1", "[::1]:1", "[::ffff:127.0.0.2]:1"];
        assert_eq!(loopback.map(enter), [Ok(()), Ok(()), Err(2), Err(2)]);
        loopback[..2].iter().for_each(|address| parties.leave(&at(address), &us));
        parties.leave(&at("10.0.0.1:9"), &us);
        assert_eq!((enter("10.0.0.1:5"), enter("10.0.0.1:6")), (Ok(()), Err(2)));
        for address in
            ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", "[fe80::1]:1", "[fe80::2]:1", "[fe80:0:0:1::1]:1"]
        {
            parties.leave(&at(address), &us);
        }
        assert!(parties.held.borrow().is_empty());
    }
}

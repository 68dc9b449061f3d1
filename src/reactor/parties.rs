//! Who holds how much of what all share: places for connections, and bytes of memory.
//!
//! All connections of a user, or of an address where the system names none, are one account, at whatever listener they
//! came in. Our own user and the system's may hold all; what others may hold is a [share] of what is left. Where the system
//! names nobody, a token tells those who know it from the others of their address: they have an account of their own, and
//! count as our own user.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use sidewire_platform::Peer;
use slab::Slab;

use crate::access::OwnIdentity;
use crate::counters::{Counters, Usage};
use crate::limits::{ATTACHMENTS_PART, PerPeer, little, share};
use crate::stats::Party;
use sidewire_wire::memory;

/// The accounts of a loop.
#[derive(Debug)]
pub(crate) struct Parties {
    by_party: HashMap<Party, PartyId>,
    accounts: Slab<Account>,
    /// Of all of them.
    connections: usize,
    /// The same.
    attachments: usize,
    counters: Counters,
}

/// Whose account something is on. Small, since each connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartyId(u16);

impl PartyId {
    /// Of whom nothing is known, and of those for whom there is no number left.
    pub(crate) const UNKNOWN: PartyId = PartyId(0);
}

/// What one of them holds.
#[derive(Debug)]
struct Account {
    party: Party,
    /// Whether it may hold all.
    is_ours: bool,
    /// Its connections at each source.
    at: Vec<(u16, usize)>,
    usage: Arc<Usage>,
}

/// Where somebody comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    pub(crate) source: u16,
    /// Connections that are there already.
    pub(crate) taken: usize,
    pub(crate) rule: PerPeer,
}

/// Who comes has all that he may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crowded {
    pub(crate) party: Party,
    pub(crate) held: usize,
    pub(crate) most: usize,
}

/// All peers that count as one: of a user, or of one address. An IPv6 address is the first half of it, since one customer
/// has all of the other. This machine counts as one, since each of its users has sixteen million loopback addresses to
/// call from.
fn party_of(peer: &Peer) -> Party {
    match (peer.credentials(), peer.address()) {
        (Some(credentials), _) => Party::User(credentials.user().clone()),
        (None, Some(address)) => Party::Address(match address.ip().to_canonical() {
            ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
            ip => ip,
        }),
        (None, None) => Party::Unknown,
    }
}

impl Account {
    fn new(party: Party, is_ours: bool) -> Account {
        Account { party, is_ours, at: Vec::new(), usage: Arc::default() }
    }

    fn held_at(&self, source: u16) -> usize {
        self.at.iter().find(|(at, _)| *at == source).map_or(0, |(_, held)| *held)
    }
}

impl Parties {
    pub(crate) fn new(counters: Counters) -> Parties {
        let mut parties = Parties {
            by_party: HashMap::new(),
            accounts: Slab::new(),
            connections: 0,
            attachments: 0,
            counters,
        };
        parties.insert(Party::Unknown, false);
        parties
    }

    /// Gives a peer one more place; to be given back by [`leave`](Parties::leave).
    ///
    /// # Errors
    /// How many it has, if it may have no more.
    pub(crate) fn enter(&mut self, peer: &Peer, us: &OwnIdentity, door: Door) -> Result<PartyId, Crowded> {
        let party = party_of(peer);
        let id = self.by_party.get(&party).copied();
        let account = id.and_then(|id| self.accounts.get(usize::from(id.0)));
        let is_ours = matches!(&party, Party::User(user) if us.is_one_of_us(user));
        let (held, most) = if is_ours { (0, usize::MAX) } else { self.allowance(&party, account, door) };
        if held >= most {
            return Err(Crowded { party, held, most });
        }
        let Some(id) = id.or_else(|| self.open(&party, is_ours)) else {
            return Err(Crowded { party, held, most: held });
        };
        Ok(self.add(id, door.source))
    }

    /// One of a stranger's connections turns out to be of somebody who knows the token: a place on the account of those at
    /// that address who do, in addition to the one that it has, which is then to be [given back](Parties::leave). `None`: it
    /// is nobody whom a token would tell apart, or there is no memory, and it stays where it is.
    pub(crate) fn prove(&mut self, id: PartyId, source: u16) -> Option<PartyId> {
        let Party::Address(address) = self.accounts.get(usize::from(id.0))?.party else { return None };
        let party = Party::TokenHolder(address);
        let proven = self.by_party.get(&party).copied().or_else(|| self.open(&party, true))?;
        (proven != PartyId::UNKNOWN).then(|| self.add(proven, source))
    }

    /// One more place on an account.
    fn add(&mut self, id: PartyId, source: u16) -> PartyId {
        let Some(account) = self.accounts.get_mut(usize::from(id.0)) else { return PartyId::UNKNOWN };
        match account.at.iter_mut().find(|(at, _)| *at == source) {
            Some((_, held)) => *held += 1,
            None => account.at.push((source, 1)),
        }
        account.usage.connections.add(1);
        self.connections += 1;
        id
    }

    /// How many connections somebody has that count here, and how many he may have.
    fn allowance(&self, party: &Party, account: Option<&Account>, door: Door) -> (usize, usize) {
        let here = account.map_or(0, |account| account.held_at(door.source));
        let held = account.map_or(0, |account| account.usage.connections.get());
        match door.rule {
            PerPeer::All => (held, usize::MAX),
            PerPeer::Most(most) => (here + self.proven_at(party, door.source), most),
            PerPeer::Share { places, descriptors } => {
                let of_places = share(places, door.taken.saturating_sub(here));
                (held, of_places.min(share(descriptors, self.connections - held)))
            }
        }
    }

    /// How many connections of that address are at a source on the account of those who have proved something.
    fn proven_at(&self, party: &Party, source: u16) -> usize {
        let Party::Address(address) = *party else { return 0 };
        let id = self.by_party.get(&Party::TokenHolder(address));
        id.and_then(|id| self.accounts.get(usize::from(id.0))).map_or(0, |account| account.held_at(source))
    }

    /// A new account. `None`: there is no memory for one. If there is no number for it, it is on that of the unknown.
    fn open(&mut self, party: &Party, is_ours: bool) -> Option<PartyId> {
        if self.accounts.len() > usize::from(u16::MAX) {
            return Some(PartyId::UNKNOWN);
        }
        let more = (self.accounts.len() + 1) * 2 * size_of::<Account>();
        let has_room = self.by_party.try_reserve(1).is_ok()
            && (self.accounts.len() < self.accounts.capacity() || memory::has_room(more));
        has_room.then(|| self.insert(party.clone(), is_ours))
    }

    fn insert(&mut self, party: Party, is_ours: bool) -> PartyId {
        let account = Account::new(party.clone(), is_ours);
        let usage = Arc::clone(&account.usage);
        let id = PartyId(u16::try_from(self.accounts.insert(account)).unwrap_or(0));
        self.counters.show_usage(id.0, party.clone(), usage);
        self.by_party.insert(party, id);
        id
    }

    /// Takes a place back. What it held has been taken off its account.
    pub(crate) fn leave(&mut self, id: PartyId, source: u16) {
        let Some(account) = self.accounts.get_mut(usize::from(id.0)) else { return };
        if let Some(index) = account.at.iter().position(|(at, _)| *at == source) {
            account.at[index].1 -= 1;
            if account.at[index].1 == 0 {
                account.at.swap_remove(index);
            }
            account.usage.connections.sub(1);
            self.connections -= 1;
        }
        if account.at.is_empty() && id != PartyId::UNKNOWN {
            let account = self.accounts.remove(usize::from(id.0));
            self.by_party.remove(&account.party);
            self.counters.hide_usage(id.0);
        }
    }

    /// One of its connections holds so many bytes, and held so many before.
    pub(crate) fn account(&mut self, id: PartyId, before: usize, now: usize) {
        if let Some(account) = self.accounts.get(usize::from(id.0)) {
            account.usage.bytes.add(now);
            account.usage.bytes.sub(before);
        }
    }

    /// One of its connections has so many attachments under way, and had so many before.
    pub(crate) fn account_attachments(&mut self, id: PartyId, before: usize, now: usize) {
        if let Some(account) = self.accounts.get(usize::from(id.0)) {
            account.usage.attachments.add(now);
            account.usage.attachments.sub(before);
            self.attachments = self.attachments + now - before;
        }
    }

    /// How many attachments somebody has under way, and how many he may have, in a process that may have so many
    /// descriptors.
    pub(crate) fn attachments(&self, id: PartyId, descriptors: usize) -> (usize, usize) {
        match self.accounts.get(usize::from(id.0)) {
            Some(account) if !account.is_ours => {
                let held = account.usage.attachments.get();
                (held, share(descriptors / ATTACHMENTS_PART, self.attachments - held))
            }
            _ => (0, usize::MAX),
        }
    }

    /// Attachments that all have under way.
    pub(crate) fn all_attachments(&self) -> usize {
        self.attachments
    }

    /// Who is farthest beyond its share of so many bytes, of which all together hold so many; what it holds, and its share.
    pub(crate) fn debtor(&self, whole: usize, all: usize) -> Option<(PartyId, usize, usize)> {
        let judged = self.accounts.iter().filter(|(_, account)| !account.is_ours).map(|(index, account)| {
            let held = account.usage.bytes.get();
            (index, held, share(whole, all - held).max(little(whole)))
        });
        let beyond = judged.filter(|(_, held, most)| held > most);
        let (index, held, most) = beyond.max_by_key(|(_, held, most)| held - most)?;
        Some((PartyId(u16::try_from(index).ok()?), held, most))
    }

    /// Who holds most bytes.
    pub(crate) fn largest(&self) -> Option<PartyId> {
        let (index, _) = self.accounts.iter().max_by_key(|(_, account)| account.usage.bytes.get())?;
        u16::try_from(index).ok().map(PartyId)
    }

    /// Bytes that all hold.
    pub(crate) fn bytes(&self) -> usize {
        self.accounts.iter().map(|(_, account)| account.usage.bytes.get()).sum()
    }
}

#[cfg(test)]
mod tests {
    use sidewire_platform::User;

    use super::*;
    use crate::limits::ListenerLimits;

    struct Hall {
        parties: Parties,
        us: OwnIdentity,
        rule: PerPeer,
        taken: [usize; 2],
    }

    const WE: u32 = 1000;

    impl Hall {
        fn new(rule: PerPeer) -> Hall {
            let us = OwnIdentity::of(User::Uid(WE), None);
            Hall { parties: Parties::new(Counters::new(1)), us, rule, taken: [0; 2] }
        }

        fn enter(&mut self, peer: &Peer, source: u16) -> Result<PartyId, usize> {
            let taken = &mut self.taken[usize::from(source)];
            let door = Door { source, taken: *taken, rule: self.rule };
            let entered = self.parties.enter(peer, &self.us, door).map_err(|crowded| crowded.held);
            *taken += usize::from(entered.is_ok());
            entered
        }

        /// As many as it gets.
        fn fill(&mut self, peer: &Peer, source: u16) -> usize {
            (0..).take_while(|_| self.enter(peer, source).is_ok()).count()
        }
    }

    fn at(address: &str) -> Peer {
        Peer::new(None, Some(address.parse().expect("an address")))
    }

    fn user(uid: u32) -> Peer {
        Peer::new(Some(sidewire_platform::Credentials::new(User::Uid(uid), None, None)), None)
    }

    /// As listeners for anyone have it unless told otherwise.
    fn by_default() -> PerPeer {
        ListenerLimits::default().per_peer(&crate::access::Access::Anyone, u64::MAX)
    }

    #[test]
    fn each_party_has_so_many() {
        let mut hall = Hall::new(PerPeer::Most(2));
        let mut enter = |address: &str| hall.enter(&at(address), 0).map(drop);
        assert_eq!([1, 2, 3].map(|port| enter(&format!("10.0.0.1:{port}"))), [Ok(()), Ok(()), Err(2)]);
        assert_eq!(enter("[::ffff:10.0.0.1]:4"), Err(2));
        assert_eq!(enter("10.0.0.2:1"), Ok(()));
        assert_eq!(["[fe80::1]:1", "[fe80::2]:1", "[fe80::3]:1"].map(&mut enter), [Ok(()), Ok(()), Err(2)]);
        assert_eq!(enter("[fe80:0:0:1::1]:1"), Ok(()));
        let loopback = ["127.0.0.1:1", "127.9.8.7:1", "[::1]:1", "[::ffff:127.0.0.2]:1"];
        assert_eq!(loopback.map(&mut enter), [Ok(()), Ok(()), Err(2), Err(2)]);
        assert_eq!((hall.enter(&Peer::unknown(), 0), hall.fill(&Peer::unknown(), 0)), (Ok(PartyId(0)), 1));
    }

    #[test]
    fn who_leaves_makes_room_and_is_forgotten() {
        let mut hall = Hall::new(PerPeer::Most(2));
        let [first, second] = [(); 2].map(|()| hall.enter(&user(7), 0).expect("room"));
        assert_eq!((first, hall.enter(&user(7), 0)), (second, Err(2)));
        assert!(hall.enter(&user(7), 1).is_ok(), "a number that is set is of one listener");
        hall.parties.leave(first, 0);
        assert!(hall.enter(&user(7), 0).is_ok());
        assert_eq!(hall.parties.counters.stats().users.len(), 1);
        for source in [0, 0, 1] {
            hall.parties.leave(first, source);
        }
        assert_eq!((hall.parties.accounts.len(), hall.parties.by_party.len()), (1, 1), "but for the unknown");
        assert!(hall.parties.counters.stats().users.is_empty());
        assert_eq!(hall.parties.connections, 0);
    }

    /// PROTOCOL L2
    #[test]
    fn one_user_may_have_ten_thousand_and_newcomers_still_find_places() {
        let mut hall = Hall::new(by_default());
        let mut got = Vec::new();
        while let more @ 1.. = hall.fill(&user(2000 + got.len() as u32), 0) {
            got.push(more);
        }
        assert_eq!(got[..3], [11_520, 2_880, 720]);
        assert!(got.len() > 60 && got[..60].iter().all(|count| *count >= 16), "{got:?}");
        assert_eq!((hall.taken[0], got.iter().sum::<usize>()), (16_384, 16_384));
    }

    #[test]
    fn what_one_may_have_shrinks_as_others_come() {
        let mut hall = Hall::new(PerPeer::Share { places: 160, descriptors: usize::MAX });
        let first = hall.enter(&user(1), 0).expect("room");
        assert!((0..79).all(|_| hall.enter(&user(WE), 0).is_ok()));
        // Of the 81 that are left 10 are kept for newcomers, and a quarter of the others.
        assert_eq!(hall.fill(&user(1), 0), 53);
        assert_eq!(hall.fill(&user(2), 0), 13);
        hall.parties.leave(first, 0);
        hall.taken[0] -= 1;
        assert_eq!((hall.fill(&user(2), 0), hall.fill(&user(1), 0)), (1, 0), "what is left is less by now");
    }

    #[test]
    fn our_own_user_may_have_all_places() {
        let mut hall = Hall::new(PerPeer::Share { places: 16, descriptors: usize::MAX });
        assert!((0..16).all(|_| hall.enter(&user(WE), 0).is_ok()));
        assert_eq!(hall.fill(&user(1), 0), 0, "and so nobody else has one");
    }

    #[test]
    fn two_listeners_share_one_account() {
        let mut hall = Hall::new(PerPeer::Share { places: 1600, descriptors: usize::MAX });
        assert_eq!((hall.fill(&user(1), 0), hall.fill(&user(1), 1)), (1125, 0));
        assert_eq!(hall.fill(&user(2), 1), 1125);
        assert_eq!(hall.fill(&user(3), 0), 282, "as others leave it there");
    }

    #[test]
    fn all_listeners_share_the_descriptors() {
        let mut hall = Hall::new(PerPeer::Share { places: 16_384, descriptors: 1600 });
        assert_eq!([0, 1].map(|source| hall.fill(&user(1), source)), [1125, 0]);
        assert_eq!([1, 0].map(|source| hall.fill(&user(2), source)), [282, 0]);
    }

    /// PROTOCOL L2
    #[test]
    fn who_has_proved_something_is_not_on_the_account_of_those_who_have_not() {
        let mut hall = Hall::new(PerPeer::Most(2));
        let stranger = hall.enter(&at("127.0.0.1:1"), 0).expect("room");
        hall.parties.account(stranger, 0, 1200);
        let party = hall.enter(&at("127.0.0.1:2"), 0).expect("room");
        let friend = hall.parties.prove(party, 0).expect("an account of its own");
        hall.parties.leave(party, 0);
        assert!(party == stranger && friend != stranger);
        assert_eq!(hall.parties.prove(friend, 0), None, "once");
        let user = hall.enter(&user(7), 0).expect("room");
        assert_eq!(hall.parties.prove(user, 0), None, "the system has named it");
        // A number that is set is of both together, as before.
        assert_eq!(
            (hall.enter(&at("127.0.0.1:3"), 0), hall.enter(&at("10.0.0.1:1"), 0).is_ok()),
            (Err(2), true)
        );
        hall.parties.account(friend, 0, 1401);
        assert_eq!(hall.parties.debtor(1600, 2601), Some((stranger, 1200, 75)), "the strangers pay");
        let shown: Vec<_> =
            hall.parties.counters.stats().users.iter().map(|usage| usage.party.to_string()).collect();
        assert!(shown.contains(&"127.0.0.1 with the token".to_owned()), "{shown:?}");
        hall.parties.leave(friend, 0);
        assert!(hall.enter(&at("127.0.0.1:3"), 0).is_ok());
    }

    /// What is left of the descriptors is for connections, and for the program.
    #[test]
    fn attachments_of_all_users_are_half_of_the_descriptors_at_most() {
        let mut hall = Hall::new(PerPeer::All);
        let [ours, first, second] = [WE, 1, 2].map(|uid| hall.enter(&user(uid), 0).expect("room"));
        assert_eq!([ours, first].map(|id| hall.parties.attachments(id, 3200).1), [usize::MAX, 1125]);
        hall.parties.account_attachments(first, 0, 1125);
        // The first has three quarters of what is left beyond what is kept, and the second of what he leaves.
        assert_eq!(hall.parties.attachments(second, 3200), (0, 282));
        hall.parties.account_attachments(ours, 0, 475);
        assert_eq!(hall.parties.attachments(second, 3200), (0, 0), "our own may have all that is left");
        assert_eq!(
            (hall.parties.attachments(first, 3200), hall.parties.all_attachments()),
            ((1125, 769), 1600)
        );
        hall.parties.account_attachments(ours, 475, 0);
        hall.parties.account_attachments(first, 1125, 16);
        assert_eq!(hall.parties.attachments(first, 3200), (16, 1125));
        assert_eq!(
            hall.parties.counters.stats().users.iter().map(|usage| usage.attachments).sum::<u64>(),
            16
        );
    }

    #[test]
    fn who_is_farthest_beyond_his_share_of_bytes_is_known() {
        let mut hall = Hall::new(PerPeer::All);
        let [ours, first, second] = [WE, 1, 2].map(|uid| hall.enter(&user(uid), 0).expect("room"));
        hall.parties.account(first, 0, 1200);
        hall.parties.account(second, 0, 401);
        // Of 1600, 1200 and 401 leave 1199 and 400 to each other; a hundred of each is kept.
        assert_eq!(hall.parties.debtor(1600, 1601), Some((first, 1200, 825)));
        hall.parties.account(first, 1200, 300);
        assert_eq!(hall.parties.debtor(1600, 701), None);
        hall.parties.account(ours, 0, 1000);
        assert_eq!(hall.parties.debtor(1600, 1701), Some((second, 401, 150)), "ours may have all");
        hall.parties.account(first, 300, 1);
        hall.parties.account(second, 401, 1);
        hall.parties.account(ours, 1000, 1599);
        assert_eq!(
            (hall.parties.debtor(1600, 1601), hall.parties.largest()),
            (None, Some(ours)),
            "a little is fine"
        );
        assert_eq!(hall.parties.bytes(), 1601);
    }
}

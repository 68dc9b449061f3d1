use sidewire_platform::{Credentials, Executable, Sid};

use super::*;
use std::io;

const WE: u32 = 1000;
const OTHER: u32 = 1001;

/// Somebody of whom more is known.
#[derive(Default)]
struct Known {
    groups: Vec<Group>,
    program: Option<PathBuf>,
}

impl Asked for Known {
    fn is_member(&self, groups: &[Group]) -> io::Result<bool> {
        Ok(self.groups.iter().any(|group| groups.contains(group)))
    }

    fn executable(&self) -> io::Result<Executable> {
        match &self.program {
            Some(path) => Executable::at(path),
            None => Err(io::Error::other("it has ended")),
        }
    }
}

fn peer(uid: u32, integrity: Option<u32>) -> Peer {
    Peer::new(Some(Credentials::new(User::Uid(uid), None, integrity)), None)
}

fn policy(access: &Access) -> Policy {
    Policy::of(access, OwnIdentity::of(User::Uid(WE), None), false).expect("a policy")
}

/// What clients and servers alike are told.
fn judge(access: &Access, uid: u32, more: &impl Asked) -> Result<(), Denied> {
    let (policy, peer) = (policy(access), peer(uid, None));
    let judged = policy.admits_client(&peer, more);
    assert_eq!(policy.admits_server(&peer, more), judged);
    judged
}

#[test]
fn same_user_and_root_may_and_nobody_else() {
    for (uid, may) in [(WE, true), (0, true), (OTHER, false), (65534, false)] {
        assert_eq!(judge(&Access::SameUser, uid, &NotAsked).is_ok(), may, "{uid}");
        assert!(judge(&Access::Anyone, uid, &NotAsked).is_ok());
    }
    let unknown = policy(&Access::SameUser).admits_client(&Peer::default(), &NotAsked);
    assert_eq!(unknown, Err(Denied::Unknown));
}

#[test]
fn the_overflow_uid_never_matches_itself() {
    let us = OwnIdentity::of(User::Uid(65534), None);
    let policy = Policy::of(&Access::SameUser, us, false).expect("a policy");
    assert_eq!(policy.admits_client(&peer(65534, None), &NotAsked), Err(Denied::Unknown));
}

#[test]
fn lower_integrity_needs_an_option() {
    let policy = |access: &Access, lower| {
        Policy::of(access, OwnIdentity::of(User::Uid(WE), Some(0x2000)), lower).expect("a policy")
    };
    let own = Access::users([User::Uid(WE)]);
    for (theirs, may) in [(Some(0x1000), false), (Some(0x2000), true), (Some(0x3000), true), (None, false)] {
        let theirs = peer(WE, theirs);
        for access in [Access::SameUser, Access::SameUser.or_users([User::Uid(OTHER)])] {
            assert_eq!(policy(&access, false).admits_client(&theirs, &NotAsked).is_ok(), may);
            assert_eq!(policy(&access, false).admits_server(&theirs, &NotAsked).is_ok(), may);
            assert!(policy(&access, true).admits_client(&theirs, &NotAsked).is_ok());
            assert!(policy(&access, true).admits_server(&theirs, &NotAsked).is_ok());
        }
        assert!(policy(&Access::Anyone, false).admits_server(&theirs, &NotAsked).is_ok());
        // Who names a user means all of its processes that reach the endpoint.
        assert!(policy(&own, false).admits_client(&theirs, &NotAsked).is_ok());
    }
    // Root's, or SYSTEM's: nobody else can have made it.
    let roots = peer(0, Some(0x1000));
    assert!(policy(&Access::SameUser, false).admits_server(&roots, &NotAsked).is_ok());
    assert!(policy(&Access::SameUser, false).admits_client(&roots, &NotAsked).is_err());
}

#[test]
fn those_who_are_named_may_and_root() {
    let access = Access::users([User::Uid(OTHER)]).or_groups([Group::Gid(7), Group::Gid(8)]);
    for (uid, groups, may) in [
        (OTHER, vec![], true),
        (0, vec![], true),
        (WE, vec![], false),
        (WE, vec![Group::Gid(8)], true),
        (1002, vec![Group::Gid(9)], false),
        (65534, vec![Group::Gid(8)], false),
    ] {
        let more = Known { groups, program: None };
        assert_eq!(judge(&access, uid, &more).is_ok(), may, "{uid}");
        let with_us =
            judge(&Access::SameUser.or_groups([Group::Gid(8)]).or_users([User::Uid(OTHER)]), uid, &more);
        assert_eq!(with_us.is_ok(), may || uid == WE, "{uid}");
    }
    // Of whom the system does not tell: who is named may all the same, and it is said why others may not.
    assert!(judge(&access, OTHER, &NotAsked).is_ok());
    let denied = judge(&access, 1002, &NotAsked).expect_err("unknown");
    assert!(denied.to_string().contains("of whose groups is not known"), "{denied}");
    assert!(denied.remedy().contains("uid 1002"), "{}", denied.remedy());
}

#[test]
fn a_program_is_asked_of_the_same_user_and_of_root() {
    let folder = tempfile::tempdir().expect("a folder");
    let [wanted, other] = ["wanted", "other"].map(|name| folder.path().join(name));
    for path in [&wanted, &other] {
        std::fs::write(path, "x").expect("a file");
    }
    let runs = |path: &PathBuf| Known { groups: Vec::new(), program: Some(path.clone()) };
    let access = Access::program(&wanted);
    if let Err(error) = Executable::can_be_told() {
        return println!("skipped: {error}");
    }
    let policy = policy(&access);
    for uid in [WE, 0] {
        assert_eq!(policy.admits_client(&peer(uid, None), &runs(&wanted)), Ok(()));
        let denied = policy.admits_client(&peer(uid, None), &runs(&other)).expect_err("another program");
        assert!(denied.to_string().contains("runs another program") && denied.remedy().contains("other"));
        let unknown = policy.admits_client(&peer(uid, None), &Known::default()).expect_err("unknown");
        assert_eq!(unknown, Denied::UnknownProgram("it has ended".into()));
    }
    // A path is its owner's to choose, and stands in the log.
    let folder_of_it = folder.path().join("\u{1b}[2J").join("x".repeat(250));
    let hostile = folder_of_it.join("other");
    // Not every system lets files have such names.
    if std::fs::create_dir_all(&folder_of_it).is_ok() {
        std::fs::write(&hostile, "x").expect("a file");
        let denied = policy.admits_client(&peer(WE, None), &runs(&hostile)).expect_err("another program");
        for text in [denied.to_string(), denied.remedy()] {
            assert!(!text.contains(char::is_control) && text.len() < 300 && text.contains('…'), "{text}");
        }
    }
    let stranger = policy.admits_client(&peer(OTHER, None), &runs(&wanted));
    assert_eq!(stranger, Err(Denied::OtherUser(User::Uid(OTHER))));
    let open = Access::Anyone.and_program(&wanted);
    assert!(judge(&open, OTHER, &runs(&wanted)).is_ok() && judge(&open, OTHER, &runs(&other)).is_err());
    // After an update the new one may as well, and the one that was there before.
    let before = folder.path().join("before");
    std::fs::rename(&wanted, &before).expect("rename");
    std::fs::rename(&other, &wanted).expect("rename");
    for path in [&wanted, &before] {
        assert_eq!(policy.admits_client(&peer(WE, None), &runs(path)), Ok(()), "{path:?}");
    }
}

#[test]
fn our_own_program_is_the_one_we_run() {
    if let Err(error) = Executable::can_be_told() {
        return println!("skipped: {error}");
    }
    let own = std::env::current_exe().expect("our program");
    let runs = |path: &std::path::Path| Known { groups: Vec::new(), program: Some(path.to_owned()) };
    assert!(judge(&Access::same_program(), WE, &runs(&own)).is_ok());
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy");
    std::fs::copy(&own, &copy).expect("copy");
    assert!(judge(&Access::same_program(), WE, &runs(&copy)).is_err());
}

#[test]
fn a_condition_is_asked_last_and_a_panic_is_a_no() {
    let is_even = |peer: &Peer| match peer.credentials().map(Credentials::user) {
        Some(User::Uid(uid)) => uid % 2 == 0,
        _ => panic!("nobody"),
    };
    let access = Access::SameUser.and_if("even", is_even);
    assert_eq!(judge(&access, WE, &NotAsked), Ok(()));
    assert_eq!(judge(&access, OTHER - 1 + 2, &NotAsked), Err(Denied::OtherUser(User::Uid(1002))));
    let open = policy(&Access::Anyone.and_if("even", is_even));
    let unmet = |panicked| Err(Denied::Unmet { name: "even".into(), panicked });
    assert_eq!(open.admits_client(&peer(OTHER, None), &NotAsked), unmet(false));
    assert_eq!(open.admits_client(&Peer::default(), &NotAsked), unmet(true));
}

#[test]
fn what_can_t_be_meant_is_refused_at_once() {
    let error = |access: Access, us: User| {
        Policy::of(&access, OwnIdentity::of(us, None), false).expect_err("no such access").to_string()
    };
    let unix = || User::Uid(WE);
    assert!(error(Access::users([]), unix()).contains("nobody"));
    assert!(error(Access::groups([]), unix()).contains("nobody"));
    for uid in [65534, u32::MAX] {
        assert!(error(Access::users([User::Uid(WE), User::Uid(uid)]), unix()).contains("no certain user"));
        assert!(error(Access::SameUser.or_groups([Group::Gid(uid)]), unix()).contains("no certain group"));
    }
    let windows = || User::Sid(Sid::new(5, &[20]).expect("a SID"));
    assert!(error(Access::users([windows()]), unix()).contains("of this system"));
    assert!(error(Access::users([unix()]), windows()).contains("of this system"));
    // A list for both systems holds on each.
    assert_eq!(judge(&Access::users([User::Uid(OTHER), windows()]), OTHER, &NotAsked), Ok(()));
}

#[test]
fn it_reads_as_it_is_meant() {
    let access = Access::SameUser
        .or_users([User::Uid(7)])
        .or_groups([Group::Gid(8)])
        .and_program("/bin/x\n")
        .and_if("awake", |_| true);
    let text = r#"access for the same user or uid 7 or gid 8 that runs "/bin/x\n", if awake"#;
    assert_eq!(access.to_string(), text);
    assert_eq!(access.clone(), access);
    assert_ne!(Access::SameUser.and_if("awake", |_| true), Access::SameUser.and_if("awake", |_| true));
    assert_eq!(Access::Anyone.and_same_program().to_string(), "access for anyone that runs our own program");
    assert_eq!(Access::Anyone.or_users([User::Uid(7)]).reach(), (true, vec![], vec![]));
    assert_eq!(Access::program("/x").reach(), (false, vec![], vec![]));
    assert!(!Access::Anyone.and_if("x", |_| true).needs_credentials());
    assert!(Access::Anyone.and_same_program().needs_credentials());
    assert!(access.lets_in_others() && !Access::program("/x").lets_in_others());
}

#[test]
fn what_an_endpoint_does_not_tell_is_said() {
    let objects = |access: &Access, endpoint: &str| access.objection(&endpoint.parse().expect("an endpoint"));
    let (program, groups) = (Access::program("/x"), Access::groups([Group::Gid(7)]));
    let users = Access::users([User::Uid(7)]);
    for endpoint in ["unixgram:/x", "abstractgram:x", "udp:127.0.0.1:1"] {
        assert!(objects(&program, endpoint).is_some() && objects(&groups, endpoint).is_some(), "{endpoint}");
        assert!(objects(&users, endpoint).is_none() && objects(&Access::SameUser, endpoint).is_none());
    }
    assert!(objects(&program, "mailslot:x").is_some() && objects(&groups, "mailslot:x").is_none());
    assert!(objects(&Access::SameUser.and_if("x", |_| true), "mailslot:x").is_some());
    assert!(objects(&program, "unix:/x").is_none() && objects(&groups, "local:x").is_none());
}

//! Who may be at the other end: programs, groups, and what the app asks itself, over real connections.

use std::time::Duration;

use sidewire::{Access, Connect, Endpoint, Error, Group, Listen, RefusedBy, ResultCode, Server, Sid, User};

use crate::util::{all_streams, fresh, start, store, until, watchdog};

/// On which the system tells who is there.
fn verified_streams() -> impl Iterator<Item = Endpoint> {
    all_streams().into_iter().filter(Endpoint::has_credentials)
}

/// What comes of connecting where server and client hold each other to this.
fn connect(endpoint: &Endpoint, ours: &Access, theirs: &Access) -> Result<(), Error> {
    // Both of us may be elevated, and a pipe for those who are named is labelled for ordinary processes.
    connect_by(endpoint, theirs, |connect| connect.access(ours.clone()).lower_integrity())
}

fn connect_by(
    endpoint: &Endpoint,
    theirs: &Access,
    with: impl FnOnce(Connect) -> Connect,
) -> Result<(), Error> {
    let (running, bound) = start(store(), [Listen::from(endpoint).access(theirs.clone())]);
    let opened = with(Connect::to(&bound[0]).expect("an endpoint")).open();
    let called = opened.and_then(|client| client.call(1, b"").map(|_| ()));
    running.stop().expect("an orderly end");
    called
}

/// Both sides let each other in.
#[track_caller]
fn works(access: &Access, endpoint: &Endpoint) {
    for (ours, theirs) in [(access, &Access::SameUser), (&Access::SameUser, access), (access, access)] {
        if let Err(error) = connect(endpoint, ours, theirs) {
            panic!("{endpoint}, we {ours}, they {theirs}: {error}");
        }
    }
}

/// Either side refuses the other; the client is told these words of its own access.
#[track_caller]
fn refused(access: &Access, endpoint: &Endpoint, words: &[&str]) {
    let error = connect(endpoint, access, &Access::SameUser).expect_err("our access");
    assert_eq!(error.refused_by(), Some(RefusedBy::OurAccess), "{error}");
    let text = error.to_string();
    words
        .iter()
        .chain(&["that is ", " would allow it"])
        .for_each(|word| assert!(text.contains(word), "{text}"));
    let error = connect(endpoint, &Access::SameUser, access).expect_err("their access");
    assert_eq!(error.refused_by(), Some(RefusedBy::Server(ResultCode::NOT_PERMITTED)), "{error}");
}

/// Whether the system tells which program a peer runs.
fn knows_programs() -> bool {
    let told = sidewire_platform::Executable::can_be_told();
    told.inspect_err(|error| println!("skipped: {error}")).is_ok()
}

#[test]
fn the_same_program_and_no_other() {
    let _watchdog = watchdog(60);
    if !knows_programs() {
        return;
    }
    let own = std::env::current_exe().expect("our program");
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy.exe");
    std::fs::copy(&own, &copy).expect("a copy");
    for endpoint in verified_streams() {
        works(&Access::same_program(), &endpoint);
        works(&Access::program(&own), &endpoint);
        refused(&Access::program(&copy), &endpoint, &["runs another program", "copy.exe"]);
    }
}

#[test]
fn what_the_app_asks_itself() {
    let _watchdog = watchdog(60);
    let is_us =
        |peer: &sidewire::Peer| peer.credentials().and_then(|known| known.pid()) == Some(std::process::id());
    for endpoint in verified_streams() {
        works(&Access::SameUser.and_if("this process", is_us), &endpoint);
        let words = ["if never", "the condition 'never' does not hold"];
        refused(&Access::SameUser.and_if("never", |_| false), &endpoint, &words);
        let words = ["the condition 'broken' panicked"];
        refused(&Access::SameUser.and_if("broken", |_| panic!("on purpose")), &endpoint, &words);
    }
    // Also of those of whom nobody tells.
    let tcp = fresh("tcp");
    let has_address = Access::Anyone.and_if("an address", |peer| peer.address().is_some());
    connect(&tcp, &has_address, &has_address).expect("let in");
    let error = connect(&tcp, &Access::Anyone, &Access::Anyone.and_if("never", |_| false)).expect_err("a no");
    assert_eq!(error.refused_by(), Some(RefusedBy::Server(ResultCode::NOT_PERMITTED)), "{error}");
}

/// The user that this is, and one that nobody is.
fn users() -> [User; 2] {
    let own = sidewire_platform::current_user().expect("who we are");
    let other = match own {
        User::Uid(_) => User::Uid(54321),
        _ => User::Sid(Sid::new(5, &[21, 1, 2, 3, 54321]).expect("a SID")),
    };
    [own, other]
}

#[test]
fn users_who_are_named() {
    let _watchdog = watchdog(60);
    let [own, other] = users();
    for endpoint in verified_streams() {
        works(&Access::users([other.clone(), own.clone()]), &endpoint);
        works(&Access::SameUser.or_users([other.clone()]), &endpoint);
        if !own.is_superuser() {
            refused(&Access::users([other.clone()]), &endpoint, &["who is not named", &other.to_string()]);
        }
    }
}

/// An elevated server that names its own user is for the ordinary processes of that. An elevated client does not take its
/// pipe for its server's, unless it says so, or names that user.
#[test]
fn an_elevated_server_for_ordinary_clients() {
    let _watchdog = watchdog(60);
    let own = Access::users([sidewire::current_user().expect("who we are")]);
    if sidewire_platform::current_integrity().is_none_or(|level| level <= 0x2000) {
        return println!("skipped: we are not elevated, or that says nothing here");
    }
    for endpoint in verified_streams() {
        let error = connect_by(&endpoint, &own, |connect| connect).expect_err("it may be anybody's");
        assert_eq!(error.refused_by(), Some(RefusedBy::OurAccess), "{error}");
        assert!(error.to_string().contains("its integrity level is 0x2000, ours 0x3000"), "{error}");
        connect_by(&endpoint, &own, Connect::lower_integrity).expect("let in");
        connect_by(&endpoint, &own, |connect| connect.access(own.clone())).expect("let in");
        connect_by(&endpoint, &Access::SameUser, |connect| connect).expect("let in");
    }
}

/// On Windows everybody is in the group of everybody; of a server nobody tells.
#[test]
fn groups_that_are_named() {
    let _watchdog = watchdog(60);
    let [own, _] = users();
    let group = match own {
        User::Uid(_) => Group::Gid(own_group()),
        _ => Group::Sid(Sid::new(1, &[0]).expect("a SID")),
    };
    for endpoint in verified_streams() {
        connect(&endpoint, &Access::SameUser, &Access::groups([group.clone()])).expect("let in");
        let ours = connect(&endpoint, &Access::groups([group.clone()]), &Access::SameUser);
        if cfg!(windows) {
            let text = ours.expect_err("of a server nobody tells").to_string();
            assert!(text.contains("does not tell which groups it is in"), "{text}");
        } else {
            ours.expect("let in");
        }
    }
}

/// The group of what we create.
#[cfg(unix)]
fn own_group() -> u32 {
    use std::os::unix::fs::MetadataExt;
    tempfile::tempfile().expect("a file").metadata().expect("its metadata").gid()
}

#[cfg(not(unix))]
fn own_group() -> u32 {
    unreachable!("it has no groups of this kind")
}

#[test]
fn an_access_that_can_t_be_kept_fails_at_once() {
    let _watchdog = watchdog(60);
    let endpoint = verified_streams().next().expect("an endpoint");
    for (access, words) in [
        (Access::users([]), "nobody"),
        (Access::users([User::Uid(65534), User::Uid(1)]), "no certain user"),
        (Access::program("relative"), "absolute"),
        (Access::program(std::env::temp_dir().join("no-such-program")), "no-such-program"),
    ] {
        let listened =
            Server::new(()).listen(Listen::from(&endpoint).access(access.clone())).expect_err("a no");
        let opened = Connect::to(&endpoint).expect("an endpoint").access(access).open().expect_err("a no");
        for error in [listened, opened] {
            assert!(error.is_invalid_input() && error.endpoint() == Some(&endpoint), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    let tcp = fresh("tcp");
    for access in [Access::same_program(), Access::users([User::Uid(1)]), Access::Anyone.and_same_program()] {
        let error = Server::new(()).listen(Listen::from(&tcp).access(access)).expect_err("a no");
        assert!(error.is_invalid_input() && error.to_string().contains("nobody vouches"), "{error}");
    }
}

/// The server goes on, and whoever is let in later is served.
#[test]
fn those_who_are_refused_cost_the_others_nothing() {
    let _watchdog = watchdog(60);
    for endpoint in verified_streams() {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counts = std::sync::Arc::clone(&asked);
        let every_second = Access::SameUser.and_if("every second one", move |_| {
            counts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2 == 1
        });
        let server = store();
        let counters = server.counters();
        let (running, bound) = start(server, [Listen::from(&endpoint).access(every_second)]);
        let open = || Connect::to(&bound[0]).expect("an endpoint").timeout(Duration::from_secs(50)).open();
        for _ in 0..20 {
            assert!(open().expect_err("refused").is_refused());
            open().expect("let in").call(1, b"").expect("a reply");
        }
        until("it has refused them", || counters.stats().refused == 20);
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 40);
        running.stop().expect("an orderly end");
    }
}

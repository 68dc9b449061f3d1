//! What is handed over, and what is refused.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use sidewire::{Acquired, Activation, Client, Connect, Pending, ResultCode, Server, SingleInstance};

use crate::stage::{ARGUMENT, PATIENT, Start, UNSET, VALUE, command, expect, hear};
use crate::util::{unique, until, watchdog};

fn acquire(app: &str) -> SingleInstance {
    SingleInstance::acquire(app).expect("acquire").first().expect("nobody else has this name")
}

/// A text that is no Unicode.
fn odd() -> OsString {
    #[cfg(unix)]
    return std::os::unix::ffi::OsStringExt::from_vec(b"caf\xe9 \xff".to_vec());
    #[cfg(windows)]
    return std::os::windows::ffi::OsStringExt::from_wide(&[0x63, 0xe9, 0xd800, 0x20]);
}

#[test]
fn the_instance_gets_what_the_other_was_started_with() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let instance = acquire(&app);
    let folder = std::env::temp_dir().canonicalize().expect("a folder");
    let (sender, said) = mpsc::channel();
    // Environments of Wine's processes go through Unix' encoding.
    let argument = if cfg!(windows) { OsString::from("caf\u{e9}") } else { odd() };
    let mut command = command(&app, 7);
    command.env(ARGUMENT, &argument).env(VALUE, "two words").env_remove(UNSET).current_dir(&folder);
    let mut start = Start::with(&mut command, 7, sender);
    expect(&said, "ready");
    start.tell("go");
    let activation = instance.next_timeout(PATIENT).expect("an activation");
    assert_eq!(activation.arguments(), [OsString::from("7"), argument]);
    let from = activation.working_folder().expect("a folder").canonicalize().expect("a folder");
    assert_eq!(from, folder);
    assert_eq!(activation.environment(VALUE), Some("two words".as_ref()));
    assert_eq!((activation.environment(UNSET), activation.environment("PATH")), (None, None));
    assert_eq!(activation.pid(), Some(start.child.id()));
    expect(&said, &format!("handed {}", std::process::id()));
    start.expect_success();
}

/// Runs another start in this process, and gives what the instance takes of it.
fn taken(instance: &SingleInstance, arguments: &[OsString], app: &str) -> Activation {
    std::thread::scope(|scope| {
        let start =
            scope.spawn(|| SingleInstance::builder(app).deadline(PATIENT).arguments(arguments).acquire());
        let activation = instance.activations().next().expect("an activation");
        let acquired = start.join().expect("no panic").expect("acquire");
        let Acquired::Other(other) = acquired else { panic!("{acquired:?}") };
        assert_eq!(other.pid(), Some(std::process::id()));
        activation
    })
}

#[test]
fn texts_need_not_be_unicode_and_may_be_long() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let instance = acquire(&app);
    let long = OsString::from("x".repeat(400_000));
    for arguments in [vec![], vec![OsString::new(), odd()], vec![long; if cfg!(windows) { 1 } else { 2 }]] {
        assert_eq!(taken(&instance, &arguments, &app).arguments(), arguments);
    }
}

#[test]
fn what_is_too_much_is_refused_before_anybody_is_asked() {
    let app = unique("app");
    let instance = acquire(&app);
    for app in [app.as_str(), &unique("nobody"), "no/name"] {
        let error =
            SingleInstance::builder(app).arguments(["x".repeat(1 << 20)]).acquire().expect_err("too much");
        assert!(error.is_invalid_input(), "{error}");
    }
    assert_eq!(instance.try_next(), None);
}

#[test]
fn what_is_no_activation_is_refused_and_hurts_nobody() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let instance = acquire(&app);
    let client = Client::connect(instance.endpoint().clone()).expect("connect");
    for garbage in [&b""[..], b"\x01", b"\x02\0\0\0\0\0\0\0\0\0", b"\x01\xff\xff\xff\xff", &[0xff; 5000]] {
        let error = client.call(1, garbage).expect_err("garbage");
        assert_eq!(error.result_code(), Some(ResultCode::MALFORMED), "{error}");
    }
    let error = client.call(0, "").expect_err("not served");
    assert_eq!(error.result_code(), Some(ResultCode::NO_HANDLER), "{error}");
    let error = client.call(1, vec![1; (1 << 20) + 1]).expect_err("too large");
    assert!(error.is_invalid_input(), "{error}");
    assert_eq!(instance.try_next(), None);
    assert_eq!(taken(&instance, &["fine".into()], &app).arguments(), ["fine"]);
}

/// An empty argument has four bytes in the payload and many more in memory.
#[test]
fn what_waits_is_bounded_by_its_memory() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let instance = acquire(&app);
    let client = Connect::to(instance.endpoint().clone()).expect("an endpoint").call_timeout(PATIENT);
    let client = client.open().expect("connect");
    let arguments = ((1_u32 << 20) - 10) / 4;
    let mut payload = [&[1][..], &arguments.to_le_bytes()].concat();
    payload.resize(5 + 4 * arguments as usize + 5, 0);
    let mut calls: Vec<_> = (0..12).map(|_| client.start(1, &payload).expect("start")).collect();
    client.flush().expect("flush");
    let (mut told, mut refused) = (0, 0);
    let mut ask = |calls: &mut Vec<Pending>| {
        calls.retain_mut(|call| match call.poll() {
            None => true,
            Some(Ok(_)) => {
                told += 1;
                false
            }
            Some(Err(error)) => {
                assert_eq!(error.result_code(), Some(ResultCode::BUSY), "{error}");
                refused += 1;
                false
            }
        });
        (told, refused)
    };
    // Each takes some 6 MiB of memory, so at most eight of them wait whatever a text costs here.
    until("most are refused", || ask(&mut calls).1 >= 4);
    // With what is taken there is room again.
    let mut taken_here = 0;
    until("the others are taken, or refused", || {
        while let Some(activation) = instance.try_next() {
            assert_eq!(activation.arguments().len(), arguments as usize);
            taken_here += 1;
        }
        ask(&mut calls);
        calls.is_empty()
    });
    let (told, _) = ask(&mut calls);
    assert!(told == taken_here && told >= 1, "{told} of {taken_here} were told");
    assert_eq!(taken(&instance, &["fine".into()], &app).arguments(), ["fine"]);
}

#[test]
fn the_apps_loop_is_woken() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let instance = acquire(&app);
    let (woken, wakes) = mpsc::channel();
    instance.on_activation(move || woken.send(()).expect("the test goes on"));
    std::thread::scope(|scope| {
        let start =
            scope.spawn(|| SingleInstance::builder(&app).deadline(PATIENT).acquire().expect("acquire"));
        wakes.recv_timeout(PATIENT).expect("a wake");
        // Whoever comes late is told at once.
        let (woken, late) = mpsc::channel();
        instance.on_activation(move || woken.send(()).expect("the test goes on"));
        late.try_recv().expect("one waits already");
        assert!(instance.try_next().is_some() && instance.try_next().is_none());
        assert!(start.join().expect("no panic").first().is_none());
    });
}

/// What serves there knows nothing of instances: nobody waits until the time is up, and nothing is displaced.
#[test]
fn another_server_in_its_place_is_told() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let endpoint = acquire(&app).endpoint().clone();
    let mut server = Server::new(());
    server.listen(&endpoint).expect("nobody is there any more");
    let running = server.spawn().expect("spawn");
    let error = SingleInstance::builder(&app).deadline(PATIENT).acquire().expect_err("no instance");
    assert_eq!(error.result_code(), Some(ResultCode::NO_HANDLER), "{error}");
    running.stop().expect("the server ends well");
    acquire(&app);
}

#[test]
fn starts_in_one_process_are_like_others() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let (sender, said) = mpsc::channel();
    let mut start = Start::new(&app, 0, sender);
    expect(&said, "ready");
    start.tell("go");
    expect(&said, "first");
    start.tell("take all");
    let others: Vec<_> = (0..8)
        .map(|_| {
            let app = app.clone();
            std::thread::spawn(move || {
                SingleInstance::builder(&app).deadline(PATIENT).arguments(["x"]).acquire().expect("acquire")
            })
        })
        .collect();
    for other in others {
        let acquired = other.join().expect("no panic");
        let Acquired::Other(other) = acquired else { panic!("{acquired:?}") };
        assert_eq!(other.pid(), Some(start.child.id()));
    }
    (0..8).for_each(|_| assert_eq!(hear(&said).1, "took x"));
    start.end();
    start.expect_success();
}

/// As people use it: one prints what the other was started with.
#[test]
fn the_example_does_as_it_says() {
    let _watchdog = watchdog(110);
    let own = std::env::current_exe().expect("the test binary");
    let folder = own.ancestors().nth(2).expect("the profile's folder").join("examples");
    let program = folder.join(format!("single_instance{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing: run 'cargo build --examples' first", program.display());
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(&folder).env_remove("RUST_LOG").stdout(Stdio::piped());
        command.env("XDG_ACTIVATION_TOKEN", "token-1");
        command
    };
    let mut first = command(&["unused"]).spawn().expect("start the example");
    let mut lines = BufReader::new(first.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let begins = lines.next().expect("a line");
    assert!(begins.starts_with("this is the instance"), "{begins}");
    let second = command(&["a file.txt"]).output().expect("start it again");
    let said = String::from_utf8_lossy(&second.stdout);
    assert_eq!(said.trim_end(), format!("the instance, pid {}, does it", first.id()));
    assert_eq!(lines.next(), Some(format!("open {}", folder.join("a file.txt").display())));
    let raised = lines.next().expect("a line");
    assert_eq!(raised, "raise the window, with the token Some(\"token-1\")");
    assert!(command(&["quit"]).status().expect("start it again").success());
    assert!(first.wait().expect("wait").success());
}

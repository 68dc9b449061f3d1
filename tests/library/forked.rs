//! A child that is forked has a copy of everything, and the same descriptors. It ends as programs do: by
//! dropping what it has. What is in the file system, in the loop and on connections stays its parent's.

use sidewire::recorder::Recording;
use sidewire::{Access, Client, Connect, Listen, Running, Server, SingleInstance};

use crate::util::{PATIENCE, Raw, alone, fresh, store, until, usual, usual_access, watchdog};

const ECHO: u16 = 4;

/// What the child does, and that it came to its end. Nothing else runs in this process but, perhaps, a
/// server's thread; so the child may do as it likes, unless that has just taken a lock of the allocator,
/// which glibc's and musl's fork see to.
fn in_a_child(body: impl FnOnce()) {
    // SAFETY: both are called with nothing but numbers. The child leaves by _exit(2), so the test harness
    // does not run on in it.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        let is_well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_ok();
        // SAFETY: a number.
        unsafe { libc::_exit(i32::from(!is_well)) };
    }
    let mut status = 0;
    // SAFETY: the pointer is to a local that outlives the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
}

fn echoes(client: &Client) {
    assert_eq!(client.call(ECHO, b"still there").expect("call").payload(), b"still there");
}

fn open(endpoint: &sidewire::Endpoint) -> Client {
    Connect::to(endpoint).expect("an endpoint").access(usual_access(endpoint)).open().expect("connect")
}

/// Of every kind that has something to lose.
fn endpoints() -> Vec<sidewire::Endpoint> {
    ["unix", "local", "tcp", "unixgram"]
        .map(|scheme| match scheme {
            "unixgram" => {
                let path = std::env::temp_dir().join(crate::util::unique("sw"));
                format!("unixgram:{}", path.display()).parse().expect("an endpoint")
            }
            scheme => fresh(scheme),
        })
        .into()
}

#[test]
fn a_server_that_a_child_drops_serves_on() {
    let _watchdog = watchdog(60);
    alone("forked::a_server_that_a_child_drops_serves_on", || {
        let (mut server, mut raws) = (store(), Vec::new());
        let bound: Vec<_> = endpoints().iter().map(|at| server.listen(usual(at)).expect("listen")).collect();
        for endpoint in bound.iter().filter(|endpoint| !endpoint.to_string().contains("gram")) {
            raws.push(Raw::connect(endpoint));
        }
        let counters = server.counters();
        while counters.connections() < raws.len() as u64 {
            assert!(server.turn(Some(std::time::Duration::from_secs(1))).expect("turn"));
        }
        let mut server = Some(server);
        let is_recorded = || Recording::of_process(std::process::id()).iter().any(Recording::is_alive);
        assert!(is_recorded());
        in_a_child(|| drop(server.take()));
        assert!(is_recorded(), "that file is the parent's, too");
        let running = server.take().expect("the parent has it still").spawn().expect("spawn");
        for raw in &raws {
            raw.send_classic(ECHO.into(), b"a link of before");
            assert_eq!(raw.receive_classic().2, b"a link of before");
        }
        bound.iter().for_each(|endpoint| echoes(&open(endpoint)));
        running.stop().expect("the server ends well");
        assert!(!is_recorded());
    });
}

#[test]
fn a_running_server_that_a_child_drops_serves_on() {
    let _watchdog = watchdog(60);
    alone("forked::a_running_server_that_a_child_drops_serves_on", || {
        let mut server: Server<Vec<u8>> = store();
        let bound: Vec<_> = endpoints().iter().map(|at| server.listen(usual(at)).expect("listen")).collect();
        let mut running: Option<Running<Vec<u8>>> = Some(server.spawn().expect("spawn"));
        bound.iter().for_each(|endpoint| echoes(&open(endpoint)));
        in_a_child(|| drop(running.take()));
        in_a_child(|| {
            let error = running.take().expect("the child has it, too").stop().expect_err("not its own");
            assert!(error.is_invalid_input(), "{error}");
        });
        bound.iter().for_each(|endpoint| echoes(&open(endpoint)));
        running.expect("the parent has it still").stop().expect("the server ends well");
    });
}

#[test]
fn an_instance_that_a_child_drops_stays_the_instance() {
    let _watchdog = watchdog(60);
    alone("forked::an_instance_that_a_child_drops_stays_the_instance", || {
        let app = crate::util::unique("app");
        let acquire = || SingleInstance::builder(&app).deadline(PATIENCE).acquire().expect("acquire");
        let mut instance = acquire().first();
        in_a_child(|| drop(instance.take()));
        let instance = instance.expect("the parent has it still");
        std::thread::scope(|scope| {
            let other = scope.spawn(acquire);
            assert!(instance.next_timeout(PATIENCE).is_some());
            assert!(other.join().expect("no panic").first().is_none());
        });
        drop(instance);
        assert!(acquire().first().is_some());
    });
}

#[test]
fn clients_that_a_child_drops_go_on() {
    let _watchdog = watchdog(60);
    alone("forked::clients_that_a_child_drops_go_on", || {
        let mut server = store();
        let bound: Vec<_> = endpoints().iter().map(|at| server.listen(usual(at)).expect("listen")).collect();
        let raw_at = fresh("unix");
        server
            .listen_lines(
                Listen::from(&raw_at),
                100,
                sidewire::on_data(|_: &mut Vec<u8>, _session: &mut sidewire::Session<'_>, _line: &[u8]| {}),
            )
            .expect("listen");
        let counters = server.counters();
        let running = server.spawn().expect("spawn");
        let raw =
            Connect::to(&raw_at).expect("an endpoint").access(Access::SameUser).open_raw().expect("connect");
        let mut clients: Vec<Option<Client>> = bound.iter().map(|endpoint| Some(open(endpoint))).collect();
        clients.iter().flatten().for_each(echoes);
        let connections = counters.connections();
        let mut raw = Some(raw);
        in_a_child(|| {
            clients.iter_mut().for_each(|client| drop(client.take()));
            drop(raw.take());
        });
        clients.iter().flatten().for_each(echoes);
        assert_eq!(counters.connections(), connections);
        drop((clients, raw));
        until("those of the parent end in order", || counters.connections() == 0);
        running.stop().expect("the server ends well");
    });
}

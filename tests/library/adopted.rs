//! Servers on sockets that the program had already.

use std::net::{TcpListener, TcpStream, UdpSocket};

use sidewire::{Access, Connect, Endpoint, Error, Listen, Server, on_data};

use crate::util::{start, store, watchdog};

fn bound(listen: Listen) -> Endpoint {
    let (running, bound) = start(store(), [listen]);
    let client = Connect::to(&bound[0]).expect("an endpoint").access(Access::Anyone).open().expect("connect");
    assert_eq!(client.call(4, "x").expect("a reply").payload(), b"x");
    drop(client);
    running.stop().expect("the server ends well");
    bound[0].clone()
}

fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => panic!("it is taken"),
        Err(error) => {
            assert!(error.is_invalid_input(), "{error}");
            error.to_string()
        }
    }
}

#[test]
fn tcp_and_udp_sockets_are_served_where_they_are() {
    let _watchdog = watchdog(60);
    let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = socket.local_addr().expect("its address").port();
    let listen = Listen::adopt(socket).expect("a listener").access(Access::Anyone);
    assert_eq!(bound(listen), Endpoint::Tcp { host: "127.0.0.1".into(), port });
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let port = socket.local_addr().expect("its address").port();
    let listen = Listen::adopt(socket).expect("a datagram socket").access(Access::Anyone);
    assert_eq!(bound(listen), Endpoint::Udp { host: "127.0.0.1".into(), port });
}

/// Policy is the same as anywhere.
#[test]
fn what_may_be_anyones_or_the_networks_must_be_asked_for() {
    let _watchdog = watchdog(60);
    let local = Listen::adopt(TcpListener::bind("127.0.0.1:0").expect("bind")).expect("a listener");
    assert!(refusal(store().listen(local)).contains("nobody vouches for who connects here"));
    let everywhere = || Listen::adopt(TcpListener::bind("0.0.0.0:0").expect("bind")).expect("a listener");
    let error = store().listen(everywhere().access(Access::Anyone)).expect_err("the network");
    assert!(error.is_refused(), "{error}");
    store().listen(everywhere().access(Access::Anyone).beyond_loopback()).expect("as asked");
}

#[test]
fn a_socket_is_listened_on_once() {
    let _watchdog = watchdog(60);
    let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
    let listen = Listen::adopt(socket).expect("a listener").access(Access::Anyone);
    let mut server = store();
    server.listen(listen.clone()).expect("listen");
    assert!(refusal(server.listen(listen)).contains("listened on already"));
}

#[test]
fn what_is_no_such_socket_is_named() {
    let _watchdog = watchdog(60);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let stream = TcpStream::connect(listener.local_addr().expect("its address")).expect("connect");
    assert!(refusal(Listen::adopt(stream)).contains("a connected TCP socket, not a listener"));
    let udp = || Listen::adopt(UdpSocket::bind("127.0.0.1:0").expect("bind")).expect("a datagram socket");
    let mut server = Server::new(());
    let raw = server.listen_raw(udp().access(Access::Anyone), on_data(|(), _session, _bytes| {}));
    assert!(refusal(raw).contains("bytes without frames need a stream"));
}

#[cfg(unix)]
#[test]
fn the_file_of_a_socket_is_its_makers() {
    use std::os::unix::net::UnixListener;

    use crate::util::client;

    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let socket = UnixListener::bind(&path).expect("bind");
    let spare = socket.try_clone().expect("a copy");
    let (running, bound) = start(store(), [Listen::adopt(socket).expect("a listener")]);
    assert_eq!(bound, [Endpoint::Unix(path.clone())]);
    assert_eq!(client(&bound[0]).call(4, "x").expect("a reply").payload(), b"x");
    running.stop().expect("the server ends well");
    assert!(path.exists());
    // The next one may go on with it: nobody has shut it down.
    let (running, bound) = start(store(), [Listen::adopt(spare).expect("a listener")]);
    client(&bound[0]).call(4, "x").expect("a reply");
    running.stop().expect("the server ends well");
}

/// Nobody has started this process with sockets.
#[test]
fn without_a_service_manager_there_are_no_sockets() {
    assert!(Listen::activated().expect("nothing is wrong").is_empty());
    let mut server = store();
    server.notify_service_manager();
    assert!(server.turn(Some(std::time::Duration::ZERO)).expect("a turn"));
}

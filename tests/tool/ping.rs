//! `sidewire ping`: what it prints, and with what status it ends.

use std::net::TcpListener;

use crate::stage::Stage;
use crate::util::{unique, watchdog};

#[test]
fn it_prints_a_line_for_each_ping_and_a_summary() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoints: Vec<_> = stage.all_streams().into_iter().chain(stage.all_datagrams()).collect();
    let server = stage.serve(&endpoints, &["--access", "anyone"]);
    for endpoint in &server.endpoints {
        if endpoint.to_string().starts_with("mailslot:") {
            continue;
        }
        let endpoint = stage.seen_from_here(endpoint).to_string();
        let args = ["ping", &endpoint, "-c", "3", "-i", "0.01", "--access", "anyone"];
        let outcome = stage.run(args).expect(0);
        let text = outcome.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(lines[0].starts_with(&format!("PING {endpoint} (")), "{text}");
        for (number, line) in lines[1..4].iter().enumerate() {
            let begin = format!("pong from {endpoint}: seq={} time=", number + 1);
            let time = line.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(" ms"));
            assert!(time.is_some_and(|time| time.parse::<f64>().is_ok()), "{line}");
        }
        assert_eq!(lines[5], "3 pings sent, 3 answered, 0% lost");
        assert!(lines[6].starts_with("time min/avg/max = "), "{text}");
    }
}

#[test]
fn its_status_says_whether_anything_came() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    stage.run(["ping", &format!("local:{}", unique("nobody")), "-c", "1"]).expect(3);
    stage.run(["ping", "nonsense", "-c", "1"]).expect(2);
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoint = format!("tcp:{}", silent.local_addr().expect("an address"));
    stage.run(["ping", &endpoint, "-c", "1", "--timeout", "0.1"]).expect(4);
    // Over datagrams nobody says that nobody is there.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
    let endpoint = format!("udp:{}", silent.local_addr().expect("an address"));
    let outcome = stage.run(["ping", &endpoint, "-c", "2", "-i", "0.01", "--timeout", "0.1"]).expect(1);
    assert!(outcome.text().contains(&format!("no pong from {endpoint}: seq=2")), "{outcome}");
    assert!(outcome.text().contains("2 pings sent, 0 answered, 100% lost"), "{outcome}");
}

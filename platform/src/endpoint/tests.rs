//! Texts and what becomes of them.

use std::ffi::OsString;

use super::*;

#[test]
fn every_scheme_round_trips() {
    for text in [
        "local:com.example.app",
        "unix:/run/a b.sock",
        "abstract:a:b/c",
        "pipe:app",
        "tcp:127.0.0.1:0",
        "tcp:[::1]:65535",
        "tcp:localhost:80",
        "unixgram:/tmp/x",
        "abstractgram:x",
        "udp:127.0.0.1:1235",
        r"mailslot:a\b",
        r"pipe:LOCAL\x",
        r"pipe:ProtectedPrefix\Administrators\x",
        r"pipe:a b(1).{x}",
        "abstract-padded:x",
        r#"abstract-padded:"\xff""#,
        "abstractgram-padded:a b",
        r#"abstract:"a\x00""#,
        r#"abstract:"\xff\"""#,
        r#"unix:"/tmp/a\x0ab""#,
        r#"unix:"/tmp/a ""#,
        r#"unix:"//tmp/a""#,
        r"unix:/tmp/a\x2db\",
        "unix:/tmp/a:b@c",
        "tcp:[fe80::1%lo]:1",
        "udp:[ff02::1%7]:1",
        "tcp:[::ffff:127.0.0.1]:1",
        "tcp:127.1:1",
        "tcp:0x7f.1:1",
        "tcp:LOCALHOST.:1",
        "tcp:xn--grn-ioa.example:1",
        "tcp:grün.example:1",
        "tcp:ดี.example:1",
        "pipe:ที่",
        "unix:/tmp/e\u{301}",
        "abstract:ที่",
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.to_string(), text);
        assert_eq!(endpoint.scheme(), text.split(':').next().unwrap());
    }
}

#[test]
fn what_the_system_hands_out_is_read() {
    let read = |bytes: &[u8]| crate::os::os_string(bytes).map(|text| Endpoint::from_os(&text));
    assert_eq!(read(b"tcp:127.0.0.1:1"), Some("tcp:127.0.0.1:1".parse()));
    assert_eq!(Endpoint::try_from(OsString::from("local:x")), "local:x".parse());
    // Systems whose texts are Unicode have no such path.
    if let Some(path) = crate::os::os_string(b"/tmp/\xff.sock") {
        assert_eq!(read(b"unix:/tmp/\xff.sock").unwrap().unwrap(), Endpoint::Unix(path.clone().into()));
        assert_eq!(read(b"unixgram:/tmp/\xff.sock").unwrap().unwrap(), Endpoint::UnixGram(path.into()));
        assert_eq!(read(b"abstract:\xff").unwrap().unwrap(), Endpoint::Abstract(b"\xff".to_vec()));
        for bad in [&b"local:\xff"[..], b"unix:\xff", b"\xff:/x", b"unix:/\xff/", b"tcp:\xff:1", b"\xff"] {
            assert!(read(bad).unwrap().is_err(), "{}", bad.escape_ascii());
        }
    }
}

#[test]
fn who_can_be_told_from_strangers() {
    for (text, client, server) in [
        ("local:x", true, true),
        ("unix:/x", true, true),
        ("abstract:x", true, true),
        ("pipe:x", true, true),
        ("tcp:127.0.0.1:1", false, false),
        ("unixgram:/x", true, true),
        ("abstractgram:x", true, false),
        ("udp:127.0.0.1:1", false, false),
        ("mailslot:x", true, false),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!((endpoint.has_credentials(), endpoint.can_verify_server()), (client, server), "{text}");
    }
}

#[test]
fn padded_names_are_those_of_the_whole_address() {
    let padded: Endpoint = "abstract-padded:ab".parse().unwrap();
    let Endpoint::Abstract(name) = &padded else { panic!("{padded}") };
    assert_eq!((name.len(), &name[..3]), (107, &b"ab\0"[..]));
    assert_eq!(Endpoint::Abstract([&b"ab"[..], &[0; 105]].concat()), padded);
    // A name that fills the address has no padding, and one NUL is not all of it.
    for name in [vec![b'x'; 107], [&b"ab"[..], &[0; 104]].concat(), vec![0; 107]] {
        let endpoint = Endpoint::AbstractGram(name.clone());
        assert_eq!(endpoint.scheme(), "abstractgram");
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }
}

#[test]
fn a_host_in_numbers_has_an_address() {
    for (text, address) in [
        ("tcp:127.1:80", Some("127.0.0.1:80")),
        ("udp:[::1]:80", Some("[::1]:80")),
        ("tcp:[fe80::1%3]:80", Some("[fe80::1%3]:80")),
        ("tcp:localhost:80", None),
        ("tcp:[fe80::1%lo]:80", None),
        ("unix:/127.0.0.1", None),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.numeric_address(), address.map(|address| address.parse().unwrap()), "{text}");
    }
}

/// PROTOCOL A1
#[test]
fn what_is_refused_says_why() {
    let long = format!("unix:/{}", "x".repeat(107));
    let wide = format!("tcp:{}:1", "x".repeat(256));
    let padded = format!("abstract-padded:{}", "x".repeat(107));
    for (text, word) in [
        ("", "SCHEME:REST"),
        ("./app.sock", "SCHEME:REST"),
        ("foo:bar", "unknown scheme 'foo'; there are local, unix"),
        ("C:\\pipe", "unknown scheme 'C'"),
        ("local:", "1 to 64"),
        ("local:a/b", "letters"),
        ("local:..", "begins"),
        ("local:x.", "end with"),
        ("local:a b", "letters"),
        ("unix:", "absolute"),
        ("unix:relative", "absolute"),
        ("unix:~/x", "'~' is not replaced"),
        ("unix:/run/", "file name"),
        (r#"unix:"/a\x00b""#, "NUL"),
        (r#"unix:"/a"#, "do not end"),
        (r#"unix:"relative""#, "absolute"),
        (long.as_str(), "at most 107"),
        ("abstract:", "1 to 107"),
        (r#"abstract:"""#, "1 to 107"),
        ("abstract-padded:", "1 to 106"),
        (r#"abstract-padded:"a\x00""#, "not NUL"),
        (padded.as_str(), "1 to 106"),
        (r"pipe:a\\b", "empty"),
        (r"pipe:\a", "empty"),
        (r"pipe:a\", "empty"),
        (r"pipe:a\..\b", "dot"),
        (r"pipe:..", "dot"),
        (r"pipe:x.", "dot"),
        (r"pipe:a\b ", "white space"),
        ("pipe:a/b", "slash"),
        ("pipe:", "1 to"),
        ("pipe:a\tb", "control"),
        ("mailslot:../pipe/x", "slash"),
        ("tcp:127.0.0.1", "HOST:PORT"),
        ("tcp:[::1]", "HOST:PORT"),
        ("tcp:[::1", "brackets"),
        ("tcp:[::1]x:80", "brackets"),
        ("tcp::80", "expected a host"),
        ("tcp:[]:80", "expected a host"),
        ("tcp:127.0.0.1:x", "not a port"),
        ("tcp:127.0.0.1:", "not a port"),
        ("tcp:127.0.0.1:+80", "not a port"),
        ("tcp:127.0.0.1:-1", "not a port"),
        ("tcp:127.0.0.1:80/path", "not a port"),
        ("tcp:h:65536", "0 to 65535"),
        ("tcp:h: 80", "not a port"),
        ("tcp:[x]:80", "IPv6"),
        ("tcp:[127.0.0.1]:80", "IPv6"),
        ("tcp:a b:80", "can't hold ' '"),
        ("tcp:user@host:80", "can't hold '@'"),
        ("tcp:a/b:80", "can't hold '/'"),
        ("pipe:a\u{202e}b", r"can't hold '\u{202e}'"),
        ("mailslot:a\u{200b}", r"can't hold '\u{200b}'"),
        ("tcp:a..b:80", "empty"),
        ("tcp:999.1.1.1:80", "not an IPv4 address"),
        ("tcp:1.2.3.08:80", "not an IPv4 address"),
        ("tcp:[fe80::1]:80", "[fe80::1%eth0]:80"),
        ("tcp:[fe80::1%]:80", "can't name"),
        ("tcp:[fe80::1%a/b]:80", "can't name"),
        (wide.as_str(), "at most 255"),
        ("abstract:a\0b", "NUL"),
    ] {
        let error = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

/// As other tools write them: refused, since a part of it might be meant otherwise, with what to
/// write in its place, which is an endpoint.
#[test]
fn spellings_of_others_are_pointed_at_ours() {
    for (text, ours) in [
        ("tcp://127.0.0.1:1", "tcp:127.0.0.1:1"),
        ("tcp://localhost:80/", "tcp:localhost:80"),
        ("tcp://[::1]:80/a?b", "tcp:[::1]:80"),
        ("udp://127.0.0.1:1", "udp:127.0.0.1:1"),
        ("unix:///run/x", "unix:/run/x"),
        ("unix://run/x", "unix:/run/x"),
        ("unix:////run/x", "unix:/run/x"),
        ("unixgram:///run/x", "unixgram:/run/x"),
        ("local://app", "local:app"),
        ("local:///app/", "local:app"),
        ("abstract://x", "abstract:x"),
        ("pipe://x", "pipe:x"),
        ("pipe:////./pipe/x", "pipe:x"),
        (r"pipe:\\.\pipe\LOCAL\x", r"pipe:LOCAL\x"),
        (r"mailslot:\\.\mailslot\x", "mailslot:x"),
        (r"\\.\pipe\x", "pipe:x"),
        ("//./pipe/a/b", r"pipe:a\b"),
        ("npipe:////./pipe/docker_engine", "pipe:docker_engine"),
        ("http://127.0.0.1:80/x", "tcp:127.0.0.1:80"),
        ("ws://localhost:80", "tcp:localhost:80"),
        ("file:///run/x", "unix:/run/x"),
        ("ipc:///run/x", "unix:/run/x"),
        ("unix:@name", "abstract:name"),
        ("unixgram:@name", "abstractgram:name"),
        ("@name", "abstract:name"),
        ("/tmp/x", "unix:/tmp/x"),
        ("/tmp/a:b", "unix:/tmp/a:b"),
        ("app", "local:app"),
        ("127.0.0.1:80", "tcp:127.0.0.1:80"),
        ("localhost:80", "tcp:localhost:80"),
        ("[::1]:80", "tcp:[::1]:80"),
        (":80", "tcp:127.0.0.1:80"),
        ("tcp:80", "tcp:127.0.0.1:80"),
        ("tcp:*:80", "tcp:0.0.0.0:80"),
        ("tcp:::1:80", "tcp:[::1]:80"),
        ("tcp:::1", "tcp:[::1]:4711"),
        ("tcp:fe80::1%lo:80", "tcp:[fe80::1%lo]:80"),
        ("tcp:[::1%lo]:80", "tcp:[::1]:80"),
        ("TCP:127.0.0.1:80", "tcp:127.0.0.1:80"),
        (" tcp:127.0.0.1:80\n", "tcp:127.0.0.1:80"),
        ("Unix:/x", "unix:/x"),
        ("unix:/tmp/x\n", r#"unix:"/tmp/x\x0a""#),
        ("unix:/tmp/x ", r#"unix:"/tmp/x ""#),
        ("abstract:a\0", r#"abstract:"a\x00""#),
    ] {
        let error = text.parse::<Endpoint>().expect_err(text).to_string();
        let (_, why) = error.rsplit_once(&format!("{text}': ")).unwrap_or(("", &error));
        assert!(why.contains(ours), "{text}: {error}");
        assert_eq!(ours.parse::<Endpoint>().unwrap().to_string(), ours);
    }
}

#[test]
fn a_bad_text_drives_no_terminal_and_fills_no_screen() {
    let long = "x".repeat(10_000);
    for text in ["\u{1b}[2J", "tcp:\u{1b}[2J:80", "tcp:x:\u{202e}1", "unix:/a\u{7}", "tcp:\u{202e}:1", &long]
    {
        let error = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(!error.contains(|c: char| c.is_control() || c == '\u{202e}'), "{error:?}");
        assert!(error.len() < 600, "{error}");
    }
    let made = [
        Endpoint::Pipe("\u{1b}".into()),
        Endpoint::Tcp { host: "\u{1b}".into(), port: 1 },
        Endpoint::Unix("/\u{1b}".into()),
    ];
    for endpoint in made {
        assert!(!format!("{endpoint} {endpoint:?}").contains('\u{1b}'));
    }
}

//! The client under load.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use sidewire::{Access, Client, Connect, Endpoint};

use super::{Result, USAGE, option, serving};

struct Load {
    requests: usize,
    window: usize,
    msg_type: u16,
    payload: Vec<u8>,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [shape, endpoint, rest @ ..] = arguments else { return Err(USAGE.into()) };
    let load = Load {
        requests: option(rest, "--requests", 20_000)?,
        window: option(rest, "--window", 64)?,
        msg_type: option(rest, "--type", serving::ECHO)?,
        payload: vec![b'.'; option(rest, "--size", 64)?],
    };
    let spin = Duration::from_millis(u64::from(rest.iter().any(|argument| argument == "--spin")));
    let client = connect(endpoint, spin)?;
    match shape.as_str() {
        "sequential" => sequential(&client, &load, shape),
        "window" => window(&client, &load, shape),
        _ => Err(USAGE.into()),
    }
}

fn connect(endpoint: &str, spin: Duration) -> Result<Client> {
    let connect = Connect::to(endpoint)?.call_timeout(Duration::from_secs(60)).spin(spin);
    let is_vouched_for = endpoint.parse::<Endpoint>()?.has_credentials();
    Ok(if is_vouched_for { connect } else { connect.access(Access::Anyone) }.open()?)
}

fn sequential(client: &Client, load: &Load, shape: &str) -> Result<()> {
    for _ in 0..load.requests / 10 {
        client.call(load.msg_type, &load.payload)?;
    }
    let mut times = Vec::with_capacity(load.requests);
    let begun = Instant::now();
    for _ in 0..load.requests {
        let start = Instant::now();
        black_box(client.call(load.msg_type, &load.payload)?.payload());
        times.push(start.elapsed());
    }
    let took = begun.elapsed();
    times.sort_unstable();
    let share = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| micros(*time));
    report(shape, load, took, &format!(",\"p50_us\":{:.3},\"p99_us\":{:.3}", share(50), share(99)));
    Ok(())
}

/// Each reply is matched with its call, and handed over.
fn window(client: &Client, load: &Load, shape: &str) -> Result<()> {
    let turns = load.requests / load.window + 1;
    let mut pending = VecDeque::with_capacity(load.window);
    let mut begun = Instant::now();
    for turn in 0..turns + turns / 10 {
        if turn == turns / 10 {
            begun = Instant::now();
        }
        for _ in 0..load.window {
            pending.push_back(client.start(load.msg_type, &load.payload)?);
        }
        while let Some(call) = pending.pop_front() {
            black_box(call.wait()?.payload());
        }
    }
    let load = Load { requests: turns * load.window, payload: load.payload.clone(), ..*load };
    report(shape, &load, begun.elapsed(), "");
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn report(shape: &str, load: &Load, took: Duration, more: &str) {
    let (seconds, size) = (took.as_secs_f64(), load.payload.len());
    let rate = load.requests as f64 / seconds;
    println!(
        "{{\"shape\":\"{shape}\",\"size\":{size},\"requests\":{},\"seconds\":{seconds:.6},\
         \"requests_per_second\":{rate:.1},\"mb_per_second\":{:.2}{more}}}",
        load.requests,
        rate * size as f64 / 1e6,
    );
}

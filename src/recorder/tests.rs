//! The ring: what is written is what is read, however much of it there was.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sidewire_platform::RING_RECORDS;
use sidewire_wire::{Layout, ResultCode};

use super::found::records;
use super::{NOBODY, Ran, Record, RecordKind, RecordState, Recorder};

/// As they would stand in a file.
fn bytes(recorder: &Recorder) -> Vec<u8> {
    let ring = recorder.recording().ring().iter();
    ring.flat_map(|cells| {
        let wide = cells.wide().iter().flat_map(|cell| cell.load(Relaxed).to_ne_bytes());
        let narrow = cells.narrow().iter().flat_map(|cell| cell.load(Relaxed).to_ne_bytes());
        wide.chain(narrow).collect::<Vec<u8>>()
    })
    .collect()
}

impl Recorder {
    /// What whoever looks now would read.
    pub(crate) fn records(&self) -> Vec<Record> {
        records(&bytes(self))
    }
}

fn ask(recorder: &Recorder, msg_type: i32, id: u32) {
    recorder.begin(RecordKind::Request, msg_type, id, 5).answered(ResultCode::OK);
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_request_is_told_with_what_the_clock_said() {
    let begun = Instant::now();
    let recorder = Recorder::new(begun);
    recorder.begin_turn(7, begun + 3 * MS);
    (1..=4).for_each(|id| ask(&recorder, 12, id));
    recorder.looked(4_000_000, 4, 4_000_000);
    recorder.begin(RecordKind::Request, -1, 0, 9).answered(ResultCode::UNKNOWN_TYPE);
    recorder.begin(RecordKind::Request, 13, 5, 0).deferred();
    let running = recorder.begin(RecordKind::Callback, 0, 6, 0);
    let read = recorder.records();
    assert_eq!(read.len(), 7);
    let first = Record {
        number: 1,
        at: 3 * MS,
        kind: RecordKind::Request,
        state: RecordState::Done,
        layout: Some(Layout::V1),
        connection: Some(7),
        msg_type: Some(12),
        id: 1,
        length: 5,
        rc: Some(ResultCode::OK),
        queued: Duration::ZERO,
        took: Some(MS),
        is_slow: false,
    };
    assert_eq!(read[0], first);
    assert_eq!(read[3], Record { number: 4, id: 4, ..first.clone() });
    // Since then the clock was not read.
    let classic = Record { at: 7 * MS, queued: 4 * MS, took: None, length: 9, ..read[4].clone() };
    assert_eq!(read[4], classic);
    assert_eq!((read[4].layout, read[4].msg_type), (Some(Layout::Classic), Some(-1)));
    assert_eq!((read[5].state, read[5].rc), (RecordState::Deferred, None));
    assert_eq!((read[6].state, read[6].handler()), (RecordState::Running, Some(Ran::Callback.to_string())));
    running.end();
    assert_eq!(recorder.records()[6].state, RecordState::Done);
}

#[test]
fn the_last_1024_are_told_and_those_that_are_slow_are_marked() {
    let begun = Instant::now();
    let recorder = Recorder::new(begun);
    for number in 1..=10_000_u32 {
        recorder.begin_turn(1, begun);
        ask(&recorder, 1, number);
        recorder.looked(1000, 1, 1000);
        if [1000, 1024, 2048, 2049, 10_000].contains(&number) {
            let read = recorder.records();
            assert_eq!(read.len(), number.min(1024) as usize);
            let ids = read.iter().map(|record| (record.number, record.id));
            assert!(ids.eq((number - read.len() as u32 + 1..=number).map(|id| (id.into(), id))));
            assert!(read.iter().all(|record| record.took == Some(MS / 1000)));
        }
    }
    recorder.note(RecordKind::Closed, 1, begun + MS, 0);
    recorder.note_answer(NOBODY, begun + MS, (4, 9), ResultCode::BUSY);
    recorder.begin_turn(2, begun);
    (1..=3).for_each(|msg_type| ask(&recorder, msg_type, 1));
    recorder.looked(300_000_000, 3, 300_000_000);
    assert_eq!(recorder.mark_slow(), [Ran::Type(1), Ran::Type(2), Ran::Type(3)]);
    let read = recorder.records();
    let [.., closed, answer, one, two, three] = &read[..] else { panic!("five at least") };
    assert_eq!((closed.kind, closed.took, closed.is_slow), (RecordKind::Closed, None, false));
    assert_eq!((answer.connection, answer.msg_type, answer.id), (None, Some(4), 9));
    assert_eq!(answer.rc, Some(ResultCode::BUSY));
    assert!([one, two, three].iter().all(|record| record.is_slow && record.took == Some(100 * MS)));
}

/// The time of a turn may be some old one; it is never older than what others have been told.
#[test]
fn time_does_not_run_backwards() {
    let begun = Instant::now();
    let recorder = Recorder::new(begun);
    recorder.begin_turn(1, begun);
    ask(&recorder, 1, 1);
    recorder.looked(300_000, 1, 300_000);
    recorder.begin_turn(2, begun + MS / 2);
    ask(&recorder, 1, 2);
    recorder.begin_turn(3, begun + MS);
    ask(&recorder, 1, 3);
    let times: Vec<_> = recorder.records().iter().map(|record| (record.at, record.queued)).collect();
    assert_eq!(times, [Duration::ZERO, MS * 3 / 10, MS].map(|at| (at, Duration::ZERO)));
}

/// Of a turn whose beginning is long gone it is still known whose it was, and when.
#[test]
fn a_turn_may_be_longer_than_the_ring() {
    let begun = Instant::now();
    let recorder = Recorder::new(begun);
    recorder.begin_turn(7, begun + MS);
    recorder.has_waited_since(begun, begun + MS);
    for id in 1..=10_000 {
        ask(&recorder, 1, id);
        recorder.looked(1000, 1, u64::from(id) * 1000);
    }
    for (record, id) in recorder.records().iter().zip(8_977..) {
        let before = (id - 1) * MS / 1000;
        let expected = (id, Some(7), MS + before, MS + before);
        assert_eq!((record.id, record.connection, record.at, record.queued), expected);
    }
}

/// While it is read, and in the middle of a record, its writer may be anywhere.
#[test]
fn what_is_half_written_is_none() {
    let recorder = Recorder::new(Instant::now());
    (1..=5000).for_each(|id| ask(&recorder, 1, id));
    // The next one's place, of which nothing is told, whatever stands there.
    let next = &recorder.recording().ring()[5001 % RING_RECORDS];
    next.narrow().iter().for_each(|cell| cell.store(u32::MAX, Relaxed));
    next.wide()[1].store(u64::MAX, Relaxed);
    let read = recorder.records();
    assert!(read.len() == 1024 && read.iter().all(|record| record.msg_type == Some(1)));
}

#[test]
fn any_bytes_are_read() {
    let mut random = 1_u64;
    for round in 0..50 {
        let mut bytes = vec![0; RING_RECORDS * 64];
        for word in bytes.chunks_exact_mut(8) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&random.rotate_left(29).to_ne_bytes());
        }
        for (place, record) in bytes.chunks_exact_mut(64).enumerate().filter(|_| round > 0) {
            let number = if round % 2 == 0 { u64::MAX / 64 / 2048 * 2048 } else { 2048 } + place as u64;
            record[..8].copy_from_slice(&(number.wrapping_mul(64)).to_ne_bytes());
            record[32] = record[33] % 16;
        }
        let read = records(&bytes);
        assert!(read.len() <= 1024 && read.is_sorted_by_key(|record| record.number));
        assert!(read.len() > 500 || round == 0, "{}", read.len());
    }
    assert!(records(&[0xFF; 100]).is_empty() && records(b"").is_empty());
}

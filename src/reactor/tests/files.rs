//! Endpoints whose files somebody has removed.

use super::*;
use crate::reactor::files::FileWatch;

/// What can't be opened anew is tried more and more rarely, but never more rarely than with each fourth look.
#[test]
fn a_lost_endpoint_is_tried_with_every_fourth_look_at_least() {
    let stage = Stage::new(|_| {});
    let site = stage.site("local:lost", Access::SameUser, Carries::Frames);
    let mut watch = FileWatch::default();
    let looks = [(); 6].map(|()| {
        let looks = (1..100).find(|_| watch.is_due()).expect("it is tried again");
        watch.looked(Err(io::ErrorKind::AddrInUse.into()), &site);
        looks
    });
    assert_eq!(looks, [1, 1, 2, 4, 4, 4]);
}

//! Helpers that describe themselves, and apps that are of another contract.

use serde::{Deserialize, Serialize};
use sidewire::describe::WhenDiffers;
use sidewire::{App, Build, DESCRIPTION, Helper, HelperBuilder, Server};

use crate::child::own;
use crate::util::watchdog;

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Double(u32);

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Halve(u32);

sidewire::messages! {
    contract Api;
    1 => Double -> u32;
}

sidewire::messages! {
    contract Other;
    1 => Halve -> u32;
}

/// In the child.
pub(crate) fn serve() {
    let mut server = Server::from_parent(()).expect("a parent");
    server.serve::<Double>(|(), Double(number)| Ok(number * 2));
    server.describe::<Api>().expect("described");
    server.run().expect("its parent's end");
}

fn helper() -> HelperBuilder {
    Helper::builder(own("describes"))
}

#[test]
fn a_helper_has_its_contract() {
    let _watchdog = watchdog(60);
    let helper = helper().options(|connect| connect.contract::<Api>(WhenDiffers::Refuse)).spawn();
    let helper = helper.expect("the same contract");
    assert_eq!(helper.client().ask(&Double(21)).expect("an answer"), 42);
    let description = helper.call(DESCRIPTION, "").expect("a description");
    assert!(description.payload().starts_with(b"{"));
}

#[test]
fn a_helper_of_another_build_is_ended() {
    let _watchdog = watchdog(60);
    let mine = App::new("app", "1");
    for helper in [
        helper().options(|connect| connect.app(mine.clone()).contract::<Other>(WhenDiffers::Refuse)),
        helper().options(|connect| connect.app(mine.clone()).build(Build::same_version())),
    ] {
        let error = helper.spawn().expect_err("another");
        assert!(error.is_other_build(), "{error}");
        assert!(error.to_string().contains("this is app 1"), "{error}");
    }
}

//! Of which build a server has to be.

use std::cmp::Ordering;

use super::Connect;
use crate::error::{Error, Kind, Result};
use sidewire_platform::Endpoint;
use sidewire_wire::App;

/// Of which build a server has to be that a client talks to, by what the two say of themselves in their hellos
/// ([`App`]); for [`Connect::build`](super::Connect::build). Nobody proves what he says there: this keeps apart what an
/// update has left side by side, not friend from foe.
///
/// A server of another build is an error of its own, which names both: [`is_other_build`](Error::is_other_build).
///
/// ```no_run
/// use sidewire::{App, Build, Connect};
///
/// let connect = Connect::to("local:com.example.app")?.app(App::new("com.example.app", "2.1.0"));
/// match connect.build(Build::at_least("2.0")).open() {
///     Ok(client) => println!("connected to {:?}", client.peer_app()),
///     Err(error) if error.is_other_build() => println!("too old: {error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    version: Version,
    same_contract: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Version {
    #[default]
    Any,
    Same,
    AtLeast(String),
}

impl Connect {
    /// Of which build the server has to be: see [`Build`]. It is held to this in each hello, also when the client
    /// [connects anew](Connect::reconnect).
    pub fn build(mut self, build: Build) -> Connect {
        self.build = build;
        self
    }
}

impl Build {
    /// Any, also one that says nothing of itself. The default.
    #[must_use]
    pub fn any() -> Build {
        Build::default()
    }

    /// Of the same name as ours, and the same version: as text.
    #[must_use]
    pub fn same_version() -> Build {
        Build { version: Version::Same, same_contract: false }
    }

    /// Of the same name as ours, and this version or a newer one: [`App::compare_version`] says how that is found. A
    /// version that is not made of dotted numbers is another build, unless it is this very text.
    #[must_use]
    pub fn at_least(version: impl Into<String>) -> Build {
        Build { version: Version::AtLeast(version.into()), same_contract: false }
    }

    /// Also of the same contract: both have its hash, and it is the same one.
    #[must_use]
    pub fn same_contract(mut self) -> Build {
        self.same_contract = true;
        self
    }

    pub(super) fn is_any(&self) -> bool {
        *self == Build::default()
    }

    /// Why `theirs` is another build; we are `ours`.
    fn objection(&self, ours: &App, theirs: &App) -> Option<String> {
        let of_name = || (ours.name() != theirs.name()).then(|| format!("{theirs}, and this is {ours}"));
        let by_version = match &self.version {
            Version::Any => None,
            Version::Same => of_name().or_else(|| {
                let is_same = ours.version() == theirs.version();
                (!is_same).then(|| format!("{theirs}, and this is {ours}"))
            }),
            Version::AtLeast(version) => of_name().or_else(|| {
                let is_enough = theirs.version() == version
                    || theirs.compare_version(version).is_some_and(Ordering::is_ge);
                (!is_enough).then(|| format!("{theirs}, and this is {ours}, which needs {version} at least"))
            }),
        };
        by_version.or_else(|| {
            let is_same = ours.contract_hash().is_some() && ours.contract_hash() == theirs.contract_hash();
            let why = || format!("{theirs}, and this is {ours}, which keeps to another contract");
            (self.same_contract && !is_same).then(why)
        })
    }

    /// Holds a server to it.
    pub(super) fn check(&self, ours: Option<&App>, theirs: Option<App>, endpoint: &Endpoint) -> Result<()> {
        if self.is_any() {
            return Ok(());
        }
        let nobody = App::default();
        match self.objection(ours.unwrap_or(&nobody), theirs.as_ref().unwrap_or(&nobody)) {
            None => Ok(()),
            Some(why) => Err(Error::new("connect to", endpoint, Kind::OtherBuild { theirs, why })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(build: &Build, ours: &App, theirs: Option<App>) -> bool {
        build.check(Some(ours), theirs, &Endpoint::Local("app".into())).is_ok()
    }

    #[test]
    fn a_build_is_held_to_what_was_asked_for() {
        let app = |version: &str| App::new("app", version);
        let ours = app("1.10");
        for (build, takes_these, others) in [
            (Build::any(), vec![None, Some(app("0")), Some(App::new("other", ""))], vec![]),
            (
                Build::same_version(),
                vec![Some(app("1.10")), Some(app("1.10").contract([1; 32]))],
                vec![None, Some(app("1.10.0")), Some(app("1.9")), Some(App::new("other", "1.10"))],
            ),
            (
                Build::at_least("1.9"),
                vec![Some(app("1.9")), Some(app("1.10")), Some(app("2"))],
                vec![
                    None,
                    Some(app("1.8")),
                    Some(app("1.9-rc")),
                    Some(app("new")),
                    Some(App::new("other", "2")),
                ],
            ),
            (Build::at_least("May"), vec![Some(app("May"))], vec![Some(app("June")), Some(app("1"))]),
        ] {
            for theirs in takes_these {
                assert!(takes(&build, &ours, theirs.clone()), "{build:?} {theirs:?}");
            }
            for theirs in others {
                assert!(!takes(&build, &ours, theirs.clone()), "{build:?} {theirs:?}");
            }
        }
    }

    #[test]
    fn contracts_are_the_same_or_not() {
        let ours = App::new("app", "1").contract([1; 32]);
        let with = |hash| Some(App::new("app", "2").contract(hash));
        assert!(takes(&Build::any().same_contract(), &ours, with([1; 32])));
        assert!(takes(&Build::at_least("1").same_contract(), &ours, with([1; 32])));
        assert!(!takes(&Build::same_version().same_contract(), &ours, with([1; 32])));
        assert!(!takes(&Build::any().same_contract(), &ours, with([2; 32])));
        let none = App::new("app", "1");
        assert!(
            !takes(&Build::any().same_contract(), &none, Some(none.clone())),
            "none have agreed on nothing"
        );
        let error =
            Build::any().same_contract().check(Some(&ours), with([2; 32]), &Endpoint::Local("app".into()));
        let error = error.expect_err("another contract");
        assert!(error.is_other_build() && error.to_string().contains("app 2, and this is app 1"), "{error}");
        assert_eq!(error.server_app().map(App::version), Some("2"));
    }
}

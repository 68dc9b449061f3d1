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

impl Connect {
    /// What our hello says.
    #[cfg(not(feature = "describe"))]
    pub(super) fn own_app(&self) -> Option<App> {
        self.app.clone()
    }

    #[cfg(feature = "describe")]
    pub(super) fn own_app(&self) -> Option<App> {
        match (&self.app, self.contract) {
            (app, Some((hash, _))) => Some(app.clone().unwrap_or_default().contract(hash)),
            (app, None) => app.clone(),
        }
    }

    /// Whether not every server will do.
    pub(super) fn is_particular(&self) -> bool {
        #[cfg(feature = "describe")]
        if matches!(self.contract, Some((_, WhenDiffers::Refuse))) {
            return true;
        }
        !self.build.is_any()
    }

    /// Holds a server to what it was to be.
    pub(crate) fn hold_to_build(&self, theirs: Option<App>) -> Result<()> {
        let ours = self.own_app();
        #[cfg(feature = "describe")]
        self.hold_to_contract(ours.as_ref(), theirs.as_ref())?;
        self.build.check(ours.as_ref(), theirs, &self.endpoint)
    }

    #[cfg(feature = "describe")]
    pub(crate) fn keep_to(mut self, hash: [u8; 32], when_differs: WhenDiffers) -> Connect {
        self.contract = Some((hash, when_differs));
        self
    }

    #[cfg(feature = "describe")]
    fn hold_to_contract(&self, ours: Option<&App>, theirs: Option<&App>) -> Result<()> {
        let Some((hash, when_differs)) = self.contract else { return Ok(()) };
        let their_hash = theirs.and_then(App::contract_hash);
        let nobody = App::default();
        let (ours, named) = (ours.unwrap_or(&nobody), theirs.unwrap_or(&nobody));
        match (when_differs, their_hash) {
            (WhenDiffers::Ignore, _) => {}
            (_, Some(their_hash)) if their_hash == hash => {}
            (WhenDiffers::Warn, Some(_)) => log::warn!(
                "{}: {named} keeps to another contract than this, {ours}: some messages may not be understood",
                self.endpoint
            ),
            (WhenDiffers::Warn, None) => log::warn!(
                "{}: {named} does not say to which contract it keeps; this is {ours}",
                self.endpoint
            ),
            (WhenDiffers::Refuse, _) => {
                let why = format!("{named}, and this is {ours}, which keeps to another contract");
                return Err(Error::new(
                    "connect to",
                    &self.endpoint,
                    Kind::OtherBuild { theirs: theirs.cloned(), why },
                ));
            }
        }
        Ok(())
    }
}

/// What a client does about a server that keeps to another contract than itself, or does not say to which: for
/// [`Connect::contract`].
#[cfg(feature = "describe")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenDiffers {
    /// Nothing.
    Ignore,
    /// Warns in the log, at each connection. The default.
    #[default]
    Warn,
    /// Does not talk to it: the error [`is_other_build`](Error::is_other_build).
    Refuse,
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

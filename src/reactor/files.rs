//! Whether clients still find the way to our endpoints: others can remove a socket's file (a cleaner of
//! temporary folders, a logout that empties the session's folder), and nothing tells us of that.

use std::io;

use super::site::Site;

/// Looks from one attempt to open a lost endpoint to the next, at most: each may knock at whoever is there.
const MOST_LOOKS: u32 = 4;

/// What is known of an endpoint's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FileWatch {
    #[default]
    There,
    /// It could not be opened anew. So many looks until it is tried again, and from then to the next.
    Lost { left: u32, then: u32 },
}

impl FileWatch {
    /// Whether to look this time.
    pub(super) fn is_due(&mut self) -> bool {
        match self {
            FileWatch::There => true,
            FileWatch::Lost { left, .. } => {
                *left = left.saturating_sub(1);
                *left == 0
            }
        }
    }

    /// What came of the look. Says whether the endpoint was opened anew.
    pub(super) fn looked(&mut self, renewed: io::Result<bool>, site: &Site) -> bool {
        let endpoint = &site.endpoint;
        match (renewed, *self) {
            (Ok(false), FileWatch::There) => return false,
            (Ok(false), FileWatch::Lost { .. }) => {
                log::debug!("{endpoint}: clients find it again");
                *self = FileWatch::There;
                return false;
            }
            (Ok(true), _) => {
                if let Some(count) = site.tallies.removed.next_worth_telling() {
                    log::warn!(
                        "{endpoint}: its file was removed, and it is bound again; {count} times so far"
                    );
                }
                *self = FileWatch::There;
                return true;
            }
            (Err(error), FileWatch::There) => {
                if let Some(count) = site.tallies.removed.next_worth_telling() {
                    log::warn!(
                        "{endpoint}: clients no longer find it, and it can't be bound again: {error}; trying \
                         every few seconds; {count} times so far"
                    );
                }
                *self = FileWatch::Lost { left: 1, then: 2 };
            }
            (Err(error), FileWatch::Lost { then, .. }) => {
                log::debug!("{endpoint}: still lost: {error}");
                *self = FileWatch::Lost { left: then, then: (then * 2).min(MOST_LOOKS) };
            }
        }
        false
    }
}

//! Who looks at figures of reviewers.

use countersign_core::person::Persons as _;
use countersign_policy::Directory;

/// Who looks.
pub(super) struct Viewer<'a> {
    /// Whether every person is shown with their id. Others see the person they name, and everybody else together.
    pub(super) operator: bool,
    /// The person that comes first.
    pub(super) first: Option<&'a str>,
}

impl<'a> Viewer<'a> {
    pub(super) fn of(directory: &'a Directory, login: &str, person: Option<&'a str>) -> Self {
        let operator = directory.operator_of_login(login).map(|operator| operator.id.as_str());
        Self { operator: operator.is_some(), first: person.or(operator).map(|id| directory.person(id)) }
    }
}

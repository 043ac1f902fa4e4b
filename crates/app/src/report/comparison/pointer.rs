//! What a JSON pointer names as the group of an action.

use countersign_policy::Directory;

use crate::AppError;

/// By what actions are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// The value at this path of the action's content.
    Content(Vec<String>),
    /// What the directory says of the acting agent.
    Directory(Attribute),
}

/// What the directory says of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    /// Its owner.
    Owner,
}

/// Pointers into the directory instead of the content.
const DIRECTORY: [(&str, Attribute); 1] = [("/directory/owner", Attribute::Owner)];

impl Attribute {
    /// Agents of whom it is known, by id.
    pub(super) fn of(self, directory: &Directory) -> Vec<(String, String)> {
        let Self::Owner = self;
        let agents = directory.agents().iter();
        agents.filter_map(|agent| Some((agent.id.clone(), agent.owner.clone()?))).collect()
    }
}

/// Reads a pointer (RFC 6901).
///
/// # Errors
/// Where it is none, or names nothing in the directory.
pub(super) fn grouping(pointer: &str) -> Result<Grouping, AppError> {
    if let Some((_, attribute)) = DIRECTORY.iter().find(|(name, _)| *name == pointer) {
        return Ok(Grouping::Directory(*attribute));
    }
    if pointer.starts_with("/directory/") {
        let known = DIRECTORY.map(|(name, _)| name).join(", ");
        return Err(AppError::Usage(format!("the directory has groups at {known}, and not at {pointer}")));
    }
    let Some(path) = pointer.strip_prefix('/').filter(|path| !path.is_empty()) else {
        let message = "a group is named by a JSON pointer, such as /arguments/customer/region";
        return Err(AppError::Usage(message.into()));
    };
    let member = |part: &str| part.replace("~1", "/").replace("~0", "~");
    Ok(Grouping::Content(path.split('/').map(member).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_names_a_place_in_the_content_or_in_the_directory() {
        let path = |parts: &[&str]| Grouping::Content(parts.iter().map(ToString::to_string).collect());
        assert_eq!(grouping("/arguments/region").unwrap(), path(&["arguments", "region"]));
        assert_eq!(grouping("/arguments/a~1b/~01").unwrap(), path(&["arguments", "a/b", "~1"]));
        assert_eq!(grouping("/directory/owner").unwrap(), Grouping::Directory(Attribute::Owner));
        for wrong in ["", "/", "region", "/directory/colour"] {
            assert!(matches!(grouping(wrong), Err(AppError::Usage(_))), "{wrong}");
        }
    }
}

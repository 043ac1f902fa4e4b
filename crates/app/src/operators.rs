//! Authorisation of operators: who has logged in to the database decides which of them acts.

use countersign_policy::{Configuration, Directory};
use countersign_store::Store;

use crate::{AppError, configuration::active};

/// The operator who acts, and the active configuration that says so.
pub(crate) struct Acting {
    /// The operator's id.
    pub(crate) operator: String,
    /// The active configuration.
    pub(crate) configuration: Configuration,
}

/// The operator of the active directory whose database login this is. If `named` is given, it must be their id.
///
/// # Errors
/// If there is none, or another one is named; if no configuration is active yet, or the database cannot be read.
pub(crate) async fn acting(store: &Store, named: Option<&str>) -> Result<Acting, AppError> {
    let configuration = active(store).await?;
    let operator = of_login(&configuration.directory, named, &store.login().await?.user)?;
    Ok(Acting { operator, configuration })
}

/// The operator of a directory whose database login is `login`.
///
/// # Errors
/// As [`acting`].
pub(crate) fn of_login(directory: &Directory, named: Option<&str>, login: &str) -> Result<String, AppError> {
    let known = directory.operator_of_login(login).map(|operator| operator.id.as_str());
    let Some(named) = named.filter(|named| known != Some(named)) else {
        return known.map(str::to_owned).ok_or_else(|| {
            AppError::State(format!(
                "the database login {login:?} is no operator's: no operator of the active directory has it as db_user"
            ))
        });
    };
    Err(AppError::State(match directory.operator(named).map(|operator| &operator.db_user) {
        None => format!("{named:?} is not an operator of the active directory"),
        Some(None) => {
            format!("the operator {named:?} cannot act: the active directory gives them no db_user")
        }
        Some(Some(own)) => {
            format!("the operator {named:?} logs in to the database as {own:?}, and this login is {login:?}")
        }
    }))
}

#[cfg(test)]
mod tests {
    use countersign_core::sources::Sources;

    use super::*;

    #[test]
    fn the_login_decides_who_acts_and_a_name_only_confirms_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/airline/");
        let read = |name: &str| std::fs::read_to_string(format!("{folder}{name}")).unwrap();
        let directory = read("directory.yaml").replace("{id: omar, db_user: operator_omar}", "{id: omar}");
        let tools = read("tools.yaml").replace("${AIRLINE_TOOLS_URL}", "http://127.0.0.1:8090");
        let sources = Sources { policy: read("policy.yaml"), tools, directory };
        let directory = Configuration::parse(&sources).unwrap().directory;
        let acts = |named, login| of_login(&directory, named, login).map_err(|error| error.to_string());
        assert_eq!(acts(None, "operator_olga"), Ok("olga".into()));
        assert_eq!(acts(Some("olga"), "operator_olga"), Ok("olga".into()));
        for (named, login, why) in [
            (None, "postgres", "the database login \"postgres\" is no operator's"),
            (
                Some("olga"),
                "postgres",
                "\"olga\" logs in to the database as \"operator_olga\", and this login is \"postgres\"",
            ),
            (Some("omar"), "operator_olga", "the operator \"omar\" cannot act"),
            (Some("sam"), "operator_olga", "\"sam\" is not an operator"),
        ] {
            let got = acts(named, login).unwrap_err();
            assert!(got.contains(why), "{got}");
        }
    }
}

//! Broker users with exactly the permissions that they need.

use std::{collections::BTreeMap, fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use countersign_broker::{
    access::{self, Access},
    management::Management,
};
use countersign_policy::{Configuration, Connector};
use url::Url;

use crate::{AppError, Connections, folder::Folder};

/// The name of the virtual host in an AMQP URL; `/` where it names none.
pub fn vhost(amqp_url: &str) -> Result<String, AppError> {
    let uri: countersign_broker::session::Uri =
        amqp_url.parse().map_err(|reason: String| AppError::Usage(format!("not an AMQP URL: {reason}")))?;
    Ok(uri.vhost)
}

/// Everyone who needs a broker user: Countersign's processes and the members of the directory.
pub fn everyone(configuration: &Configuration) -> Vec<Access> {
    let exchanges = configuration.tools.iter().filter_map(|tool| match tool.connector() {
        Connector::Amqp(amqp) => Some(amqp.exchange.clone()),
        Connector::Http(_) => None,
    });
    [access::roles(exchanges), access::people(&configuration.directory)].concat()
}

/// Creates broker users for everyone, with passwords from `password`; existing users get the new password. Returns AMQP URLs
/// by user.
pub async fn create(
    management: &Management,
    amqp_url: &str,
    configuration: &Configuration,
    password: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, String>, AppError> {
    let mut urls = BTreeMap::new();
    for access in everyone(configuration) {
        let password = password(&access.user);
        management.grant(&access, &password).await?;
        let mut url = Url::parse(amqp_url).map_err(AppError::invalid("the AMQP URL is malformed"))?;
        let fits = url.set_username(&access.user).is_ok() && url.set_password(Some(&password)).is_ok();
        if !fits {
            return Err(AppError::Usage("the AMQP URL cannot carry a user".into()));
        }
        urls.insert(access.user, url.into());
    }
    Ok(urls)
}

/// Creates broker users for a folder's directory and Countersign's processes, with new random passwords, and writes one AMQP
/// URL per user into a new file that only its owner can read. Returns the users.
///
/// # Errors
/// If the file already exists; then no user was changed.
pub async fn create_into(to: &Connections, config: &Path, out: &Path) -> Result<Vec<String>, AppError> {
    let folder = Folder::read(config)?;
    let amqp_url = to.amqp()?;
    let management = Management::new(to.management()?, &vhost(amqp_url)?)?;
    // Create the file first: passwords that cannot be written down would lock everybody out.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .map_err(AppError::file("creating", out))?;
    let urls = create(&management, amqp_url, &folder.configuration, random_password).await?;
    for (user, url) in &urls {
        writeln!(file, "{}={url}", variable(user)).map_err(AppError::file("writing", out))?;
    }
    Ok(urls.into_keys().collect())
}

/// 128 random bits in hex.
pub fn random_password(_user: &str) -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Brings the permissions of existing users up to date. Returns those who have no user yet.
pub async fn permit(management: &Management, configuration: &Configuration) -> Result<Vec<String>, AppError> {
    let mut missing = Vec::new();
    for access in everyone(configuration) {
        if !management.permit(&access).await? {
            missing.push(access.user);
        }
    }
    Ok(missing)
}

/// Revokes all permissions of users who are no longer in the directory.
pub async fn revoke(
    management: &Management,
    before: &Configuration,
    now: &Configuration,
) -> Result<(), AppError> {
    let stay: Vec<String> = everyone(now).into_iter().map(|access| access.user).collect();
    for gone in everyone(before).into_iter().filter(|access| !stay.contains(&access.user)) {
        management.permit(&Access { write: vec![], read: vec![], ..gone }).await?;
    }
    Ok(())
}

/// A user's variable in an environment file: `AGENT_AIRLINE_AMQP_URL` for `agent-airline`.
pub fn variable(user: &str) -> String {
    let name: String =
        user.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("{name}_AMQP_URL")
}

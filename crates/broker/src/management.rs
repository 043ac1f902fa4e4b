//! RabbitMQ's management API: users, permissions, virtual hosts. Used when a folder is applied.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use crate::{BrokerError, access::Access};

/// A client of the management API.
pub struct Management {
    client: Client,
    url: Url,
    vhost: String,
}

impl Management {
    /// `url` is `http://user:password@host:15672`; `vhost` is the one that permissions are about.
    pub fn new(url: &str, vhost: &str) -> Result<Self, BrokerError> {
        let failed = |reason: String| BrokerError::Management { doing: "setting up a client".into(), reason };
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let url = Url::parse(url).map_err(|error| failed(error.to_string()))?;
        Ok(Self { client, url, vhost: vhost.into() })
    }

    /// Creates or updates a user with a password and no tags, and gives it exactly this access.
    pub async fn grant(&self, access: &Access, password: &str) -> Result<(), BrokerError> {
        let user = json!({"password": password, "tags": ""});
        let path = ["users", &access.user];
        if self.must(Method::PUT, &path, Some(user.clone())).await.is_err() {
            // If somebody else has just created the user, it can be updated now.
            self.must(Method::PUT, &path, Some(user)).await?;
        }
        match self.permit(access).await? {
            true => Ok(()),
            false => Err(BrokerError::Management {
                doing: format!("giving {:?} its permissions", access.user),
                reason: format!("no such user or virtual host {:?}", self.vhost),
            }),
        }
    }

    /// Gives an existing user exactly this access. `false` if there is no such user.
    pub async fn permit(&self, access: &Access) -> Result<bool, BrokerError> {
        let permissions =
            json!({"configure": "", "write": access.write_pattern(), "read": access.read_pattern()});
        let path = ["permissions", &self.vhost, &access.user];
        self.call(Method::PUT, &path, Some(permissions)).await.map(|status| status.is_success())
    }

    /// Creates the virtual host, with full access for `admin`.
    pub async fn create_vhost(&self, admin: &str) -> Result<(), BrokerError> {
        self.must(Method::PUT, &["vhosts", &self.vhost], Some(json!({}))).await?;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.must(Method::PUT, &["permissions", &self.vhost, admin], Some(all)).await
    }

    /// Deletes the virtual host with everything in it.
    pub async fn delete_vhost(&self) -> Result<(), BrokerError> {
        self.call(Method::DELETE, &["vhosts", &self.vhost], None).await.map(drop)
    }

    /// Deletes a user.
    pub async fn delete_user(&self, user: &str) -> Result<(), BrokerError> {
        self.call(Method::DELETE, &["users", user], None).await.map(drop)
    }

    async fn must(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<(), BrokerError> {
        let doing = format!("{method} {}", path.join("/"));
        let status = self.call(method, path, body).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(BrokerError::Management { doing, reason: status.to_string() })
    }

    /// 404 and 400 (RabbitMQ's answer for an unknown user) are left to the caller; any other status is an error.
    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<StatusCode, BrokerError> {
        let doing = || format!("{method} {}", path.join("/"));
        let failed = |reason: String| BrokerError::Management { doing: doing(), reason };
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| failed("the URL cannot have a path".into()))?
            .pop_if_empty()
            .push("api")
            .extend(path);
        // Removed from the URL, where they would add a second Authorization header.
        let (user, password) = (url.username().to_owned(), url.password().unwrap_or_default().to_owned());
        let _ = (url.set_username(""), url.set_password(None));
        let mut request = self.client.request(method.clone(), url).basic_auth(user, Some(password));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| failed(error.to_string()))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_FOUND || status == StatusCode::BAD_REQUEST {
            return Ok(status);
        }
        Err(failed(format!("{status}: {}", response.text().await.unwrap_or_default())))
    }
}

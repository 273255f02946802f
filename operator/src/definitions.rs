//! The CustomResourceDefinitions, put into the cluster by the operator itself: so they come with a chart's upgrade, stay
//! when it is uninstalled, and are not lowered by a rollback, for one of a newer version is left as it is.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::timely::{ApiError, timely};
use crate::version::Version;

/// Who the operator is, to the API server's records of who set which field.
pub const MANAGER: &str = "postern-operator";
/// The annotation that says which version of the operator wrote a definition.
pub const VERSION: &str = "postern.dev/version";

/// Why the definitions are not there.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// What this program holds is no definition.
    #[error("the definitions that are built in can't be read")]
    BuiltIn(#[from] serde_yaml::Error),
    /// The API server does not take them.
    #[error("definition {0}")]
    Api(String, #[source] ApiError),
    /// The API server took it, but does not serve it.
    #[error("definition {0} is not established")]
    NotEstablished(String),
}

/// Applies the definitions, and waits until they are served.
pub async fn apply(client: &Client) -> Result<(), DefinitionsError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (_, text) in postern_crds::schema::definitions()? {
        let mut definition: Value = serde_yaml::from_str(&text)?;
        let name = definition.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let failed = |error| DefinitionsError::Api(name.clone(), error);
        let there = timely(api.get_opt(&name)).await.map_err(failed)?;
        let version_there = there
            .as_ref()
            .and_then(|there| there.metadata.annotations.as_ref()?.get(VERSION))
            .and_then(|version| Version::read(version));
        if version_there > Some(Version::own()) {
            tracing::info!(definition = name, "is of a newer version, and stays as it is");
            continue;
        }
        if let Some(metadata) = definition.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".into(), json!({VERSION: env!("CARGO_PKG_VERSION")}));
        }
        let parameters = PatchParams::apply(MANAGER).force();
        timely(api.patch(&name, &parameters, &Patch::Apply(definition))).await.map_err(failed)?;
        established(&api, &name).await?;
    }
    Ok(())
}

async fn established(api: &Api<CustomResourceDefinition>, name: &str) -> Result<(), DefinitionsError> {
    for _ in 0..100 {
        let definition = timely(api.get(name)).await.map_err(|error| DefinitionsError::Api(name.to_owned(), error))?;
        let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(DefinitionsError::NotEstablished(name.to_owned()))
}

//! `explain`: the policy and the identity as the cluster has them, given to `postern-sidecar check`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use kube::core::{DynamicObject, ResourceExt as _};
use postern_crds::api::API_VERSION;
use serde_json::{Value, json};

use super::status::all;
use super::{Explain, Place};
use crate::objects::{self, Identity, Kind, Policy};
use crate::timely::timely;

pub(super) async fn explain(place: &Place, asked: &Explain) -> Result<ExitCode> {
    let policy = policy(place, asked.policy.as_deref()).await?;
    let api = objects::of_namespace::<Identity>(place.client.clone(), &place.namespace);
    let identity = timely(api.get(&asked.identity)).await.with_context(|| format!("identity {}", asked.identity))?;
    for object in [&policy, &identity] {
        let generation = object.metadata.generation;
        let in_force = object.data.pointer("/status/generationInForce").and_then(Value::as_i64);
        if generation != in_force {
            let in_force = in_force.map_or_else(|| "nothing".to_owned(), |it| format!("generation {it}"));
            eprintln!("{}: {in_force} is in force; what follows is about it as it is written", object.name_any());
        }
    }
    let folder = Folder::new()?;
    let [policy, identity] = [folder.write::<Policy>(&policy)?, folder.write::<Identity>(&identity)?];
    let mut check = Command::new(&asked.sidecar);
    check.arg("check").arg("--policy").arg(policy).arg("--identity").arg(identity);
    check.args(["--as", &asked.identity, "--sql", &asked.sql]).args(&asked.more);
    let program = asked.sidecar.display();
    let status = check.status().with_context(|| format!("{program}, which explains, can't be run; see --sidecar"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

async fn policy(place: &Place, name: Option<&str>) -> Result<DynamicObject> {
    if let Some(name) = name {
        let api = objects::of_namespace::<Policy>(place.client.clone(), &place.namespace);
        return timely(api.get(name)).await.with_context(|| format!("policy {name}"));
    }
    let mut all = all::<Policy>(place, false).await?;
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => bail!("there is no policy in {}", place.namespace),
        (Some(last), false) => {
            let names: Vec<String> = all.iter().chain([&last]).map(DynamicObject::name_any).collect();
            bail!("--policy: {} has several: {}", place.namespace, names.join(", "))
        }
    }
}

/// A folder of our own, gone when dropped. What is in it is no secret.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("kubectl-postern-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Writes an object as `check` reads it.
    fn write<K: Kind>(&self, object: &DynamicObject) -> Result<PathBuf> {
        let metadata = json!({"namespace": object.namespace(), "name": object.name_any()});
        let spec = object.data.get("spec");
        let document = json!({"apiVersion": API_VERSION, "kind": K::KIND, "metadata": metadata, "spec": spec});
        let path = self.0.join(Path::new(K::PLURAL).with_extension("yaml"));
        std::fs::write(&path, document.to_string())?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

//! A gate whose sessions run as a role that is granted what the policy allows, as those that are made for sidecars are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use postern_crds::files::{Object, read};
use postern_e2e::gate;
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_sidecar::catalog::{Catalog, load};
use postern_sidecar::decide::bind::bind;
use postern_sidecar::decide::grants::{Grants, grants, statements};
use postern_sidecar::upstream::{self, Credential, Tls, UpstreamConfig};
use postern_sidecar::wire::startup::PROTOCOL_3_0;

use crate::{Comparison, POLICY, Side, rows};

/// What GRANTs can't give: it is refused on either side.
fn policy() -> String {
    POLICY.replace(", Ddl, Lock, Maintenance]", "]")
}

/// The gate as the owner of everything, and as a role with the policy's grants.
pub(crate) fn comparison() -> Result<Comparison> {
    let (mut first, mut second) = (Side::original("")?, Side::original("")?);
    first.guard("app", &policy())?;
    let (server, role) = (Server::shared()?, format!("granted_{}", second.database));
    let mut sql = format!("CREATE ROLE {role}; SET ROLE app; ");
    for statement in all(server, &second.database, &role)? {
        // What belongs to the server is not the owner's to grant.
        if !statement.contains(" ON DATABASE ") {
            sql.push_str(&format!("{statement}; "));
        }
    }
    sql.push_str(&format!("RESET ROLE; GRANT CONNECT, TEMPORARY ON DATABASE {} TO {role}", second.database));
    server.psql(&second.database, &sql)?;
    second.guard(&role, &policy())?;
    Ok(Comparison { first, second, needles: crate::Needles::new(&[]), essence: rows, is_twin: false, control: None })
}

/// The statements that grant what the policy allows.
fn all(server: &Server, database: &str, role: &str) -> Result<Vec<String>> {
    let text = format!("{}\n---\n{}", gate::policy(server, database, &policy()), gate::identity("app", "apps", role));
    let objects = read(&text).map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    let (mut policy, mut identity) = (None, None);
    for object in objects {
        match object {
            Object::Policy(found) => policy = found.compile().ok(),
            Object::Identity(found) => identity = found.compile().ok(),
        }
    }
    let (policy, identity) = (policy.unwrap(), identity.unwrap());
    let bound = bind(Arc::new(policy), Arc::new(identity), Arc::new(catalog(server, database)?), 0, None);
    Ok(statements(&bound.catalog, database, role, &grants(&bound), &Grants::new(), &Grants::new()))
}

#[tokio::main(flavor = "current_thread")]
async fn catalog(server: &Server, database: &str) -> Result<Catalog> {
    let config = UpstreamConfig {
        host: server.socket_folder().to_string_lossy().into_owned(),
        port: server.port(),
        database: database.to_owned(),
        credential: Credential::new(ADMIN, ADMIN_PASSWORD),
        tls: Tls::new(postern_crds::TlsMode::Disable, None)?,
        timeout: Duration::from_secs(30),
    };
    let mut connection = upstream::connect(&Arc::new(config), &[], PROTOCOL_3_0).await?;
    Ok(load::load(&mut connection).await?.0)
}

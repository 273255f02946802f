//! Roles that are made for sidecars (`credentials.ephemeralRole`): one for each, as long as its lease holds.
//!
//! **Promise.** A role can do no more than the policy says: it is a member of one role that holds the policy's GRANTs for
//! its identity, or of the one that the policy names. Its password is its sidecar's own; what is kept here and sent to the
//! database is the verifier. When its lease is over, or the right to it, its sessions are ended, what it owns is given
//! to one that may do nothing, and it is dropped; also one whose operator ended before. Any replica makes and prolongs any role.
//! **Also.** What can't be granted is told, and the lease is given: the database then refuses what is missing.
//! **Not covered.** Objects that a role made in another database of the server: they hold up its end, which is told.

mod name;
mod server;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use postern_sidecar::catalog::load;
use postern_sidecar::decide::bind::bind;
use postern_sidecar::decide::grants::{Grants, grants, statements};
use tokio::sync::{OnceCell, broadcast};
use tokio::time::{Instant, timeout};

use crate::metrics::Metrics;
use crate::objects::{Change, Identity, InForce, Objects, Policy};
use crate::secrets::{SecretError, Secrets};
use crate::timely::timely;

use name::{Comment, Owner};
use server::{Admin, Registered, cut};

/// How long one role may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How old the answer may be to whether GRANTs still fit the catalog.
const FRESH: Duration = Duration::from_secs(20);
/// For how long it is believed that a role is as it was left.
const BELIEVED: Duration = Duration::from_secs(120);
/// For how long a failure is the answer to everybody who asks next.
const FAILED: Duration = Duration::from_secs(3);
/// How much longer than the lease a role may log in.
const MARGIN: Duration = Duration::from_secs(30);
/// How often the leader looks for roles that are over.
const SWEEP: Duration = Duration::from_secs(15);
/// How long changes gather before it looks.
const GATHER: Duration = Duration::from_millis(300);
/// After how long those that could not be dropped before are left for another time, so that who waits for a role gets one.
const AT_A_TIME: Duration = Duration::from_secs(20);
/// SQLSTATE of a role that isn't there.
const UNDEFINED_OBJECT: &str = "42704";
/// SQLSTATE where somebody held a lock for too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Most roles of an identity's jobs outside of the cluster at a time, as far as this replica made them: who has one token
/// can make as many keys as he likes, and each has a role.
const MAX_OUTSIDE: usize = 1000;
/// Most statements that are told of one policy.
const TOLD: usize = 5;

/// Why a role can't be had right now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// The admin's Secret, or the CA's.
    #[error("secret {0} can't be read: {1}")]
    Secret(String, SecretError),
    /// The database can't be reached, or the connection broke.
    #[error("no role can be made: {0}")]
    Connection(String),
    /// Something that the policy or the Secret says is wrong.
    #[error("no role can be made: {0}")]
    Settings(String),
    /// The server refused.
    #[error(
        "no role can be made, the database says: {message} ({sqlstate}); adminSecret needs CREATEROLE, and of a memberOf the ADMIN OPTION"
    )]
    Refused {
        /// Its code.
        sqlstate: String,
        /// Its message.
        message: String,
    },
    /// The cluster's UID isn't known.
    #[error("the UID of the cluster can't be read")]
    Cluster,
    /// There are too many.
    #[error(
        "{MAX_OUTSIDE} sidecars outside of the cluster have roles by this identity already, until their leases end"
    )]
    Many,
    /// It took too long.
    #[error("the database takes too long to make a role")]
    Late,
}

/// For whom a role is asked, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Loan<'a> {
    /// The policy.
    pub policy: &'a InForce<Policy>,
    /// The identity.
    pub identity: &'a InForce<Identity>,
    /// Who holds the lease, as the token says.
    pub subject: &'a str,
    /// The pod, if it is one.
    pub pod: Option<&'a str>,
    /// The sidecar's key (RFC 7638).
    pub thumbprint: &'a str,
    /// Verifier of the sidecar's password; see [`postern_crds::lease::is_verifier`].
    pub verifier: &'a str,
    /// How long the lease holds from now on, its grace included.
    pub life: Duration,
}

/// A role that was lent.
#[derive(Clone, Debug)]
pub struct Lent {
    /// Its name.
    pub role: String,
    /// What could not be granted, if that was just found.
    pub refused: Option<String>,
}

/// A role as it was left.
struct Known {
    verifier: String,
    group: String,
    until: Instant,
    seen: Instant,
}

/// GRANTs as they were left.
struct Held {
    /// Of policy and identity.
    generations: (i64, i64),
    fingerprint: String,
    seen: Instant,
}

/// A database, with the connection to it.
#[derive(Default)]
struct Server {
    /// Nobody's while somebody works with it: whoever is cut short in the middle, by a deadline or because his client left,
    /// leaves none, and nobody takes the answers to his questions for those to his own.
    connection: tokio::sync::Mutex<Option<Connection>>,
    roles: Mutex<HashMap<String, Known>>,
    held: Mutex<HashMap<String, Held>>,
    failed: Mutex<Option<(Instant, RoleError)>>,
    /// Roles that could not be dropped: they come after all others.
    stuck: Mutex<HashSet<String>>,
}

/// A connection, with the versions of the Secrets that it was made by.
struct Connection {
    by: Vec<String>,
    admin: Admin,
}

/// Whether there are too many roles of a group to make this one, which may be one of them.
fn is_crowded(roles: &HashMap<String, Known>, role: &str, group: &str) -> bool {
    let now = Instant::now();
    !roles.contains_key(role)
        && roles.values().filter(|known| known.group == group && known.until > now).count() >= MAX_OUTSIDE
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in a section of these locks leaves anything half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is done where the admin's Secret can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    /// Nothing: who takes it away wants that.
    Nothing,
    /// What the connection that was made by it still can. With a namespace all that is in it is deleted, in no certain order.
    Connected,
}

/// The roles of all policies. One for a process.
pub struct Roles {
    client: Client,
    secrets: Arc<Secrets>,
    metrics: Arc<Metrics>,
    cluster: OnceCell<String>,
    /// By the policy's UID.
    servers: Mutex<HashMap<String, Arc<Server>>>,
}

impl std::fmt::Debug for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Roles")
    }
}

impl Roles {
    /// None is known yet.
    pub fn new(client: Client, secrets: Arc<Secrets>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { client, secrets, metrics, cluster: OnceCell::new(), servers: Mutex::default() })
    }

    /// The role of a sidecar, made or prolonged, for a policy that has `ephemeralRole`.
    pub async fn lend(&self, loan: &Loan<'_>) -> Result<Lent, RoleError> {
        let owner = self.owner(loan.policy).await?;
        let role = owner.role(loan.thumbprint);
        let group = match member_of(loan.policy) {
            Some(group) => group.to_owned(),
            None => owner.holder(&loan.identity.uid, &loan.identity.checked),
        };
        let server = self.server(&loan.policy.uid);
        let until = Instant::now() + loan.life;
        let lasts = server.lasts(&role, &group, loan, until);
        if lasts && (member_of(loan.policy).is_some() || server.is_fresh(&group, loan)) {
            return Ok(Lent { role, refused: None });
        }
        if loan.pod.is_none() && is_crowded(&locked(&server.roles), &role, &group) {
            return Err(RoleError::Many);
        }
        if let Some((at, error)) = &*locked(&server.failed)
            && at.elapsed() < FAILED
            && !lasts
        {
            return Err(error.clone());
        }
        let made =
            timeout(TIMEOUT, self.make(&server, &owner, loan, &role, &group)).await.unwrap_or(Err(RoleError::Late));
        let outcome = if made.is_ok() { "lent" } else { "failed" };
        self.metrics.roles.with_label_values(&[outcome]).inc();
        match made {
            Ok(refused) => {
                *locked(&server.failed) = None;
                let (verifier, seen) = (loan.verifier.to_owned(), Instant::now());
                let mut roles = locked(&server.roles);
                roles.retain(|_, known| known.until > seen);
                roles.insert(role.clone(), Known { verifier, group, until, seen });
                Ok(Lent { role, refused })
            }
            // What was made holds while the database is away, as the lease does.
            Err(RoleError::Connection(why)) if lasts => {
                tracing::warn!(%why, role, "it could not be seen whether a role's grants still fit");
                Ok(Lent { role, refused: None })
            }
            Err(error) => {
                let namespace = &loan.policy.checked.namespace;
                tracing::warn!(namespace, policy = loan.policy.checked.name, %error, "a sidecar gets no role");
                // What one role is held up by is no matter of others.
                if !matches!(&error, RoleError::Refused { sqlstate, .. } if sqlstate == LOCK_NOT_AVAILABLE) {
                    *locked(&server.failed) = Some((Instant::now(), error.clone()));
                }
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        server: &Server,
        owner: &Owner,
        loan: &Loan<'_>,
        role: &str,
        group: &str,
    ) -> Result<Option<String>, RoleError> {
        let mut kept = server.connection.lock().await;
        let mut connection = self.connected(&mut kept, loan.policy).await?;
        let admin = &mut connection.admin;
        let made = async {
            let refused = match member_of(loan.policy) {
                Some(group) => admin.check_group(group).await.map(|()| None)?,
                None => hold(admin, server, owner, loan, group).await?,
            };
            let comment = comment(owner, loan, Some(loan.subject));
            // In a pod nobody but the sidecar has a session.
            let kept = loan.pod.is_some();
            admin.lend(role, group, &comment, loan.verifier, loan.life + MARGIN, kept).await?;
            Ok(refused)
        };
        let made = made.await;
        // The role that holds the grants is gone, by whomever: it is made again at the next try.
        if let Err(RoleError::Refused { sqlstate, .. }) = &made
            && sqlstate == UNDEFINED_OBJECT
        {
            locked(&server.held).remove(group);
        }
        connection.keep(&mut kept, &made);
        made
    }

    /// Takes the connection, made anew where there is none, or it was by other Secrets.
    async fn connected(
        &self,
        kept: &mut Option<Connection>,
        policy: &InForce<Policy>,
    ) -> Result<Connection, RoleError> {
        let checked = &policy.checked;
        let namespace = &checked.namespace;
        let read = async |name: &str| {
            let secret = self.secrets.get(namespace, name).await;
            secret.map_err(|error| RoleError::Secret(format!("{namespace}/{name}"), error))
        };
        let secret = read(checked.database.credentials.secret()).await?;
        let ca = match &checked.database.ca_secret {
            Some((name, key)) => Some((read(name).await?, key)),
            None => None,
        };
        let mut versions = vec![policy.generation.to_string(), secret.version.clone()];
        versions.extend(ca.as_ref().map(|(ca, _)| ca.version.clone()));
        match kept.take().filter(|connection| connection.by == versions) {
            Some(connection) => Ok(connection),
            None => {
                let ca = ca.as_ref().and_then(|(ca, key)| ca.values.get(*key));
                let mut admin = Admin::connect(checked, &secret, ca.map(|pem| pem.as_slice())).await?;
                if !admin.is_primary().await? {
                    return Err(RoleError::Settings(
                        "the server only reads: set ephemeralRole.primary to the one that can be written".to_owned(),
                    ));
                }
                Ok(Connection { by: versions, admin })
            }
        }
    }

    async fn owner(&self, policy: &InForce<Policy>) -> Result<Owner, RoleError> {
        let asked = self.cluster.get_or_try_init(|| async {
            let namespaces: Api<Namespace> = Api::all(self.client.clone());
            let namespace = timely(namespaces.get("kube-system")).await.map_err(|error| {
                tracing::warn!(%error, "the UID of the cluster can't be read");
                RoleError::Cluster
            })?;
            namespace.metadata.uid.ok_or(RoleError::Cluster)
        });
        Ok(Owner { cluster: asked.await?.clone(), policy: policy.uid.clone() })
    }

    fn server(&self, policy: &str) -> Arc<Server> {
        Arc::clone(locked(&self.servers).entry(policy.to_owned()).or_default())
    }

    /// Drops, on the replica that leads, what is over, as long as it leads.
    pub async fn sweep(&self, objects: &Objects) {
        let mut changes = objects.changes();
        // Of policies that had such roles, also when they have them no more.
        let mut policies: HashMap<String, Arc<InForce<Policy>>> = HashMap::new();
        loop {
            let there = objects.policies();
            // The connection of one that is deleted is of use until it is gone: its end may have to be tried again.
            let uids: HashSet<&str> = there.iter().map(|known| known.uid.as_str()).collect();
            locked(&self.servers).retain(|uid, _| uids.contains(uid.as_str()));
            policies.retain(|uid, _| uids.contains(uid.as_str()));
            for known in &there {
                let Some(policy) = known.last_good.clone() else { continue };
                let has_roles = policy.checked.database.credentials.ephemeral().is_some();
                match policies.get(&policy.uid).cloned() {
                    Some(before) if !has_roles => {
                        if self.dropped(&before, |_| true, Without::Nothing).await {
                            policies.remove(&policy.uid);
                        }
                    }
                    None if !has_roles => {}
                    _ => {
                        let is_over = |role: &Registered| known.deleted.is_none() && is_over(role, objects);
                        self.dropped(&policy, is_over, Without::Nothing).await;
                        policies.insert(policy.uid.clone(), policy);
                    }
                }
            }
            let mut moment = std::pin::pin!(tokio::time::sleep(SWEEP));
            loop {
                tokio::select! {
                    () = &mut moment => break,
                    change = changes.recv() => match change {
                        Ok(Change::Identity(_) | Change::Policy(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {
                            let soon = Instant::now() + GATHER;
                            if soon < moment.deadline() {
                                moment.as_mut().reset(soon);
                            }
                        }
                        Ok(Change::Pod(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                }
            }
        }
    }

    /// Ends all roles of a policy that is deleted; whether none is left.
    pub async fn end(&self, policy: &InForce<Policy>) -> bool {
        self.dropped(policy, |_| true, Without::Connected).await
    }

    /// Drops what is over of a policy's roles; whether all of that is gone.
    async fn dropped(&self, policy: &InForce<Policy>, is_over: impl Fn(&Registered) -> bool, without: Without) -> bool {
        let drop = async {
            let owner = self.owner(policy).await?;
            let server = self.server(&policy.uid);
            let mut kept = server.connection.lock().await;
            let mut connection = match self.connected(&mut kept, policy).await {
                Err(error @ RoleError::Secret(..)) if without == Without::Connected => kept.take().ok_or(error)?,
                connected => connected?,
            };
            let dropped = drop_over(&mut connection.admin, &server, &owner, policy, &is_over, &self.metrics).await;
            connection.keep(&mut kept, &dropped);
            dropped
        };
        match timeout(TIMEOUT, drop).await.unwrap_or(Err(RoleError::Late)) {
            Ok(all) => all,
            Err(error) => {
                let (namespace, policy) = (&policy.checked.namespace, &policy.checked.name);
                tracing::warn!(namespace, policy, %error, "roles that are over can't be looked for; it is tried again");
                false
            }
        }
    }
}

impl Connection {
    /// For who comes next, where that is of use.
    fn keep<T>(self, kept: &mut Option<Connection>, worked: &Result<T, RoleError>) {
        if self.admin.is_usable_after(worked) {
            *kept = Some(self);
        }
    }
}

impl Server {
    /// Whether the role is as the loan wants it, for as long.
    fn lasts(&self, role: &str, group: &str, loan: &Loan<'_>, until: Instant) -> bool {
        locked(&self.roles).get(role).is_some_and(|known| {
            known.verifier == loan.verifier
                && known.group == group
                && known.until + Duration::from_secs(5) >= until
                && known.seen.elapsed() < BELIEVED
        })
    }

    /// Whether GRANTs were just seen to be those of the policy.
    fn is_fresh(&self, group: &str, loan: &Loan<'_>) -> bool {
        locked(&self.held).get(group).is_some_and(|held| {
            held.generations == (loan.policy.generation, loan.identity.generation) && held.seen.elapsed() < FRESH
        })
    }
}

fn member_of(policy: &InForce<Policy>) -> Option<&str> {
    policy.checked.database.credentials.ephemeral()?.member_of.as_deref()
}

fn comment(owner: &Owner, loan: &Loan<'_>, subject: Option<&str>) -> Comment {
    Comment {
        owner: owner.clone(),
        namespace: loan.identity.checked.namespace.clone(),
        identity: loan.identity.checked.name.clone(),
        subject: subject.map(str::to_owned),
        pod: subject.and(loan.pod).map(str::to_owned),
    }
}

/// Sees to it that a role holds the policy's GRANTs for an identity; which statements had no effect.
async fn hold(
    admin: &mut Admin,
    server: &Server,
    owner: &Owner,
    loan: &Loan<'_>,
    group: &str,
) -> Result<Option<String>, RoleError> {
    if server.is_fresh(group, loan) {
        return Ok(None);
    }
    let generations = (loan.policy.generation, loan.identity.generation);
    let print = load::fingerprint(&mut admin.0).await.map_err(loaded)?;
    if let Some(held) = locked(&server.held).get_mut(group)
        && held.generations == generations
        && held.fingerprint == print
    {
        held.seen = Instant::now();
        return Ok(None);
    }
    let locked = admin.lock(group).await?;
    let brought = bring_in_line(admin, server, owner, loan, group).await;
    if locked && admin.is_usable_after(&brought) {
        admin.unlock(group).await?;
    }
    brought
}

/// Makes the role that holds the GRANTs, and grants and revokes what they are not yet; which statements had no effect.
async fn bring_in_line(
    admin: &mut Admin,
    server: &Server,
    owner: &Owner,
    loan: &Loan<'_>,
    group: &str,
) -> Result<Option<String>, RoleError> {
    let generations = (loan.policy.generation, loan.identity.generation);
    admin.make_holder(group, &comment(owner, loan, None)).await?;
    let (catalog, print) = load::load(&mut admin.0).await.map_err(loaded)?;
    let (policy, identity) = (Arc::new(loan.policy.checked.clone()), Arc::new(loan.identity.checked.clone()));
    let bound = bind(policy, identity, Arc::new(catalog), 0, None);
    let wanted = grants(&bound);
    let mut missing = Vec::new();
    // What a first round revokes of tables is gone of their columns too; and what a second one leaves can't be granted.
    for round in 0..3 {
        let (held, public) = admin.privileges(group).await?;
        missing = statements(&bound.catalog, &bound.policy.database.name, group, &wanted, &held, &public);
        if missing.is_empty() || round == 2 {
            break;
        }
        tracing::info!(role = group, statements = missing.len(), "grants are brought in line with the policy");
        admin.run_each(&missing).await?;
    }
    // That of what was loaded: what was made since is seen at the next look. Where something is missing it is tried again,
    // for rights of the admin change without a trace in the catalog.
    let fingerprint = if missing.is_empty() { print } else { String::new() };
    locked(&server.held).insert(group.to_owned(), Held { generations, fingerprint, seen: Instant::now() });
    Ok((!missing.is_empty()).then(|| {
        let more = missing.len().saturating_sub(TOLD);
        let mut told: Vec<String> = missing.into_iter().take(TOLD).collect();
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        told.join("; ")
    }))
}

fn loaded(error: load::LoadError) -> RoleError {
    match error {
        load::LoadError::Server { sqlstate, message } => {
            RoleError::Refused { sqlstate: cut(&sqlstate), message: cut(&message) }
        }
        other => RoleError::Connection(other.to_string()),
    }
}

/// Whether a role that nobody deletes is over: by its time, or because the right to it is gone.
fn is_over(role: &Registered, objects: &Objects) -> bool {
    let identity = |comment: &Comment| objects.identity(&comment.namespace, &comment.identity);
    let is_gone = |comment: &Comment| identity(comment).is_none_or(|known| known.in_force.is_none());
    role.over || role.comment.as_ref().is_some_and(is_gone)
}

/// Drops the roles of sidecars that are over, and those that hold GRANTs for nobody any more; whether all of it went.
async fn drop_over(
    admin: &mut Admin,
    server: &Server,
    owner: &Owner,
    policy: &InForce<Policy>,
    is_over: impl Fn(&Registered) -> bool,
    metrics: &Metrics,
) -> Result<bool, RoleError> {
    let mut roles = admin.roles(&owner.prefix()).await?;
    {
        let mut stuck = locked(&server.stuck);
        stuck.retain(|name| roles.iter().any(|role| role.name == *name));
        roles.sort_by_key(|role| stuck.contains(&role.name));
    }
    let until = Instant::now() + AT_A_TIME;
    // Another's may have a name that begins alike; and what has no comment of ours is not ours.
    let ours = |role: &&Registered| role.comment.as_ref().is_some_and(|comment| comment.owner == *owner);
    let (mut all, mut over) = (true, HashSet::new());
    for role in roles.iter().filter(ours).filter(|role| is_over(role)) {
        over.insert(role.name.as_str());
        if !role.login && role.comment.as_ref().is_some_and(|comment| comment.subject.is_none()) {
            continue;
        }
        if Instant::now() > until && locked(&server.stuck).contains(&role.name) {
            all = false;
            break;
        }
        locked(&server.roles).remove(&role.name);
        match admin.drop(&role.name, owner, &policy.checked).await {
            Ok(()) => {
                metrics.roles.with_label_values(&["dropped"]).inc();
                tracing::info!(role = role.name, "a role whose lease is over is dropped");
            }
            // Another replica that led until now was faster.
            Err(RoleError::Refused { sqlstate, .. }) if sqlstate == UNDEFINED_OBJECT => {}
            Err(RoleError::Connection(why)) => return Err(RoleError::Connection(why)),
            Err(error) => {
                all = false;
                locked(&server.stuck).insert(role.name.clone());
                metrics.roles.with_label_values(&["stuck"]).inc();
                tracing::warn!(role = role.name, %error, "a role whose lease is over can't be dropped; it can't log in");
            }
        }
    }
    let holders = roles.iter().filter(ours).filter(|role| !role.login && over.contains(role.name.as_str()));
    for holder in holders.filter(|role| role.comment.as_ref().is_some_and(|comment| comment.subject.is_none())) {
        if admin.has_members(&holder.name).await? {
            all = false;
            continue;
        }
        let (catalog, _) = load::load(&mut admin.0).await.map_err(loaded)?;
        let (held, public) = admin.privileges(&holder.name).await?;
        let database = &policy.checked.database.name;
        let revoked = statements(&catalog, database, &holder.name, &Grants::new(), &held, &public);
        locked(&server.held).remove(&holder.name);
        admin.run_each(&revoked).await?;
        match admin.drop_holder(&holder.name, owner, &policy.checked).await {
            Ok(()) => {}
            Err(RoleError::Connection(why)) => return Err(RoleError::Connection(why)),
            Err(error) => {
                all = false;
                tracing::warn!(role = holder.name, %error, "a role that holds grants for nobody can't be dropped");
            }
        }
    }
    let heir = owner.heir();
    if all
        && roles.iter().filter(ours).all(|role| over.contains(role.name.as_str()))
        && roles.iter().any(|role| role.name == heir)
    {
        admin.drop_heir(&heir).await?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_buys_a_bounded_number_of_roles_and_keeps_nobody_else_out() {
        let now = Instant::now();
        let known = |until| Known { verifier: String::new(), group: "g".into(), until, seen: now };
        let later = now + Duration::from_secs(600);
        let mut roles: HashMap<_, _> = (0..MAX_OUTSIDE).map(|at| (at.to_string(), known(later))).collect();
        assert!(is_crowded(&roles, "new", "g"));
        assert!(!is_crowded(&roles, "0", "g"), "one that is there is prolonged");
        assert!(!is_crowded(&roles, "new", "of another identity"));
        roles.insert("0".into(), known(now));
        assert!(!is_crowded(&roles, "new", "g"), "one is over");
    }
}

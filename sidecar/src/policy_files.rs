//! Policies, identities and secrets from files, and the watch over them; or from the documents of a lease, read as
//! strictly.
//!
//! **Promise.** What is in force was whole and without mistakes when it was read: a change counts once two looks in a
//! row saw the same content, so that a file in the middle of being written is never a policy; and a change with
//! mistakes is reported, while the last good one stays.
//! Content is compared, not times: mounted volumes swap symbolic links, editors rename.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postern_crds::files::{self, Object};
use postern_crds::lease::SecretEntry;
use postern_crds::{CheckedIdentity, CheckedPolicy, Credentials, Database};
use zeroize::Zeroizing;

use crate::config::{ObjectName, Sources};
use crate::decide::mask::{self, HashKey};
use crate::upstream::{Credential, Tls, TlsConfigError, UpstreamConfig};

/// Largest file that is read; Kubernetes stores no object over 1.5 MiB.
const MAX_FILE: u64 = 4 << 20;
/// Most files of all paths together.
const MAX_FILES: usize = 1000;
/// How often files are looked at.
pub const LOOK: Duration = Duration::from_millis(500);
/// How long a connection to the database may take, log-in included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest key of a `hash` mask: one that can be tried through hides nothing.
const MIN_HASH_KEY: usize = 16;

/// Why files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or folder could not be read.
    #[error("failed to read {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is too large, or there are too many.
    #[error("{}: {message}", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// What is too large.
        message: &'static str,
    },
}

/// The texts of all files, as one look saw them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts(Vec<(PathBuf, String)>);

impl Texts {
    /// Reads files, and of folders those that end in .yaml, .yml or .json.
    pub fn read(paths: &[PathBuf]) -> Result<Self, ReadError> {
        let mut files = Vec::new();
        for path in paths {
            let io = |error| ReadError::Io { path: path.clone(), error };
            if !std::fs::metadata(path).map_err(io)?.is_dir() {
                files.push(path.clone());
                continue;
            }
            let mut found = Vec::new();
            for entry in std::fs::read_dir(path).map_err(io)? {
                let file = entry.map_err(io)?.path();
                let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                let known = file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
                if known && !hidden && file.is_file() {
                    found.push(file);
                }
                if found.len() > MAX_FILES {
                    return Err(ReadError::TooLarge { path: path.clone(), message: "more than 1000 files in it" });
                }
            }
            found.sort();
            files.append(&mut found);
        }
        let mut texts = Vec::with_capacity(files.len());
        for path in files {
            let bytes = read_bounded(&path)?;
            // A replacement character can't make a mistaken file a good one: names hold ASCII.
            texts.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
        Ok(Self(texts))
    }

    /// What each file holds, or its mistakes.
    pub fn objects(&self) -> impl Iterator<Item = (&Path, Result<Vec<Object>, Vec<String>>)> {
        self.0.iter().map(|(path, text)| {
            let named = |error: &files::FileError| format!("{}: {error}", path.display());
            let found = files::read(text).map_err(|errors| errors.iter().map(named).collect());
            (path.as_path(), found)
        })
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    let io = |error| ReadError::Io { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ReadError::TooLarge { path: path.to_owned(), message: "larger than 4 MiB" });
    }
    Ok(bytes)
}

/// Every mistake of the files, one each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

/// All objects of the files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// The policies.
    pub policies: Vec<Arc<CheckedPolicy>>,
    /// The identities.
    pub identities: Vec<Arc<CheckedIdentity>>,
}

impl Objects {
    /// All objects of the texts, or all mistakes.
    pub fn compile(texts: &Texts) -> Result<Self, Mistakes> {
        let mut objects = Objects::default();
        let mut mistakes = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for (path, found) in texts.objects() {
            let found = match found {
                Ok(found) => found,
                Err(errors) => {
                    mistakes.extend(errors);
                    continue;
                }
            };
            for object in found {
                let (kind, namespace, name) = object.key();
                let label = format!("{kind} {namespace}/{name}");
                if let Some(before) = seen.insert(label.clone(), path) {
                    mistakes.push(format!("{}: {label} is in {}, too", path.display(), before.display()));
                }
                let errors = match &object {
                    Object::Policy(policy) => policy.compile().map(|it| objects.policies.push(Arc::new(it))),
                    Object::Identity(identity) => identity.compile().map(|it| objects.identities.push(Arc::new(it))),
                };
                if let Err(errors) = errors {
                    mistakes.extend(errors.iter().map(|error| format!("{}: {label}: {error}", path.display())));
                }
            }
        }
        if mistakes.is_empty() { Ok(objects) } else { Err(Mistakes(mistakes)) }
    }

    /// The policy meant: the one named, or the only one there is.
    pub fn policy(&self, meant: Option<&ObjectName>) -> Result<Arc<CheckedPolicy>, String> {
        let found: Vec<_> = self
            .policies
            .iter()
            .filter(|policy| meant.is_none_or(|meant| meant.means(&policy.namespace, &policy.name)))
            .collect();
        match (found.as_slice(), meant) {
            ([policy], _) => Ok(Arc::clone(policy)),
            ([], None) => Err("the files hold no DatabaseAccessPolicy".to_owned()),
            ([], Some(meant)) => Err(format!("the files hold no DatabaseAccessPolicy {meant}")),
            (several, _) => {
                let names = several.iter().map(|policy| format!("{}/{}", policy.namespace, policy.name));
                Err(format!("the files hold several policies: say which with --policy-name ({})", list(names)))
            }
        }
    }

    /// The identity meant. A policy's identities are those of its namespace.
    pub fn identity(&self, meant: &ObjectName, policy: &CheckedPolicy) -> Result<Arc<CheckedIdentity>, String> {
        let of_policy = || self.identities.iter().filter(|identity| identity.namespace == policy.namespace);
        of_policy().find(|identity| meant.means(&identity.namespace, &identity.name)).map(Arc::clone).ok_or_else(|| {
            let names = of_policy().map(|identity| identity.name.clone());
            format!("namespace {} has no NonHumanIdentity {meant} (it has: {})", policy.namespace, list(names))
        })
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A policy and the identity that clients have under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The policy.
    pub policy: Arc<CheckedPolicy>,
    /// The identity.
    pub identity: Arc<CheckedIdentity>,
}

impl Loaded {
    /// What the files say now, for one identity.
    pub fn compile(texts: &Texts, sources: &Sources, identity: &ObjectName) -> Result<Self, Mistakes> {
        let objects = Objects::compile(texts)?;
        let policy = objects.policy(sources.policy.as_ref()).map_err(|mistake| Mistakes(vec![mistake]))?;
        let identity = objects.identity(identity, &policy).map_err(|mistake| Mistakes(vec![mistake]))?;
        Ok(Self { policy, identity })
    }

    /// What two documents say, such as a lease has.
    pub fn from_documents(policy: serde_json::Value, identity: serde_json::Value) -> Result<Self, String> {
        fn told<E: std::fmt::Display>(errors: Vec<E>) -> String {
            errors.iter().map(E::to_string).collect::<Vec<_>>().join("\n")
        }
        let (Object::Policy(policy), Object::Identity(identity)) =
            (files::read_value(policy).map_err(told)?, files::read_value(identity).map_err(told)?)
        else {
            return Err("there is no policy and identity in it".to_owned());
        };
        let (policy, identity) = (policy.compile().map_err(told)?, identity.compile().map_err(told)?);
        if policy.namespace != identity.namespace {
            return Err("policy and identity are of different namespaces".to_owned());
        }
        Ok(Self { policy: Arc::new(policy), identity: Arc::new(identity) })
    }
}

/// Sees changes of the files.
#[derive(Debug)]
pub struct Watch {
    sources: Sources,
    identity: ObjectName,
    in_force: Texts,
    /// What the look before saw.
    before: Result<Texts, String>,
    /// The mistake that was told last; it is told once, not at every look.
    told: Option<String>,
}

impl Watch {
    /// Of files that were read, for one identity.
    pub fn new(sources: Sources, identity: ObjectName, in_force: Texts) -> Self {
        Self { sources, identity, before: Ok(in_force.clone()), in_force, told: None }
    }

    /// Looks once; to be called every [`LOOK`]. A change is told when two looks in a row saw it.
    pub fn look(&mut self) -> Option<Result<Loaded, String>> {
        let now = Texts::read(&self.sources.paths).map_err(|error| error.to_string());
        if now != self.before {
            self.before = now;
            return None;
        }
        let result = match now {
            Ok(texts) if texts == self.in_force && self.told.is_none() => return None,
            Ok(texts) => Loaded::compile(&texts, &self.sources, &self.identity)
                .map_err(|error| error.to_string())
                .inspect(|_| self.in_force = texts),
            Err(error) => Err(error),
        };
        match result {
            Ok(loaded) => {
                self.told = None;
                Some(Ok(loaded))
            }
            Err(mistake) if self.told.as_ref() == Some(&mistake) => None,
            Err(mistake) => {
                self.told = Some(mistake.clone());
                Some(Err(mistake))
            }
        }
    }
}

/// Why a secret can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A name that would leave the folder.
    #[error("'{0}' is not a name of a secret or key")]
    Name(String),
    /// The key could not be read.
    #[error("failed to read {}, key '{key}' of secret '{secret}': {error}", path.display())]
    Read {
        /// The secret.
        secret: String,
        /// The key.
        key: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The lease has no such key.
    #[error("the lease has no key '{key}' of secret '{secret}'")]
    Missing {
        /// The secret.
        secret: String,
        /// The key.
        key: String,
    },
    /// It holds what it can't.
    #[error("key '{key}' of secret '{secret}' {problem}")]
    Content {
        /// The secret.
        secret: String,
        /// The key.
        key: String,
        /// What is wrong; never the value.
        problem: &'static str,
    },
    /// The policy wants a role made for each sidecar.
    #[error("spec.database.credentials: ephemeralRole needs the broker; a sidecar that runs alone needs a secret")]
    EphemeralRole,
    /// The CA bundle is not good.
    #[error("spec.database.tls: {0}")]
    Tls(#[from] TlsConfigError),
}

/// Where the values of secrets are.
#[derive(Clone, Debug)]
pub enum Secrets {
    /// In a folder, as Kubernetes mounts them: `<folder>/<secret>/<key>`.
    Folder(PathBuf),
    /// In a lease.
    Leased(Leased),
}

/// What a lease has of secrets.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Keys of Secrets.
    pub entries: Vec<SecretEntry>,
    /// As whom to log in, where a role was made for this sidecar.
    pub login: Option<OwnLogin>,
}

/// A role that was made for this sidecar, and its password.
#[derive(Clone)]
pub struct OwnLogin {
    /// The role.
    pub role: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for OwnLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnLogin({})", self.role)
    }
}

impl Secrets {
    /// Secrets of this folder.
    pub fn new(folder: PathBuf) -> Self {
        Secrets::Folder(folder)
    }

    /// The value of a key.
    pub fn key(&self, secret: &str, key: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let folder = match self {
            Secrets::Folder(folder) => folder,
            Secrets::Leased(leased) => {
                let found = leased.entries.iter().find(|entry| entry.secret == secret && entry.key == key);
                let missing = || SecretError::Missing { secret: secret.to_owned(), key: key.to_owned() };
                return found.map(|entry| entry.value.clone()).ok_or_else(missing);
            }
        };
        for name in [secret, key] {
            if name.is_empty() || name.contains('/') || name.contains('\0') || name == "." || name == ".." {
                return Err(SecretError::Name(name.to_owned()));
            }
        }
        let path = folder.join(secret).join(key);
        let error = match read_bounded(&path) {
            Ok(value) => return Ok(Zeroizing::new(value)),
            Err(ReadError::Io { error, .. }) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(SecretError::Read { secret: secret.to_owned(), key: key.to_owned(), path, error })
    }

    /// The value of a key that holds one line of text; the line feed that editors and `echo` leave is not part of it.
    fn line(&self, secret: &str, key: &str) -> Result<Zeroizing<String>, SecretError> {
        let value = self.key(secret, key)?;
        let wrong = |problem| SecretError::Content { secret: secret.to_owned(), key: key.to_owned(), problem };
        let text = std::str::from_utf8(&value).map_err(|_| wrong("is not UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(wrong("is empty"));
        }
        if text.contains(['\n', '\r', '\0']) {
            return Err(wrong("is more than one line"));
        }
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The values of all secrets that a policy names.
    pub fn read(&self, policy: &CheckedPolicy) -> Result<SecretValues, SecretError> {
        let database = &policy.database;
        let (user, password) = match (&database.credentials, self) {
            (Credentials::Secret(secret), _) => (self.line(secret, "username")?, self.line(secret, "password")?),
            (Credentials::Ephemeral(_), Secrets::Leased(Leased { login: Some(login), .. })) => {
                (Zeroizing::new(login.role.clone()), login.password.clone())
            }
            (Credentials::Ephemeral(_), _) => return Err(SecretError::EphemeralRole),
        };
        let mut hash_keys = Vec::new();
        for hash_key in mask::hash_keys(policy) {
            let (secret, key) = &hash_key.secret;
            let value = self.key(secret, key)?;
            if value.len() < MIN_HASH_KEY {
                let problem = "is too short for the key of a hash: it needs at least 16 bytes";
                return Err(SecretError::Content { secret: secret.clone(), key: key.clone(), problem });
            }
            hash_keys.push((hash_key, value));
        }
        Ok(SecretValues {
            user,
            password,
            ca: database.ca_secret.as_ref().map(|(secret, key)| self.key(secret, key)).transpose()?,
            hash_keys,
            // In a pod another container can pose as the server.
            guarded: matches!(self, Secrets::Leased(_)),
        })
    }
}

/// The values of the secrets that a policy names. Wiped when dropped, never shown.
#[derive(Clone, PartialEq)]
pub struct SecretValues {
    user: Zeroizing<String>,
    password: Zeroizing<String>,
    ca: Option<Zeroizing<Vec<u8>>>,
    hash_keys: Vec<(HashKey, Zeroizing<Vec<u8>>)>,
    /// A password that could be read or guessed from what is sent is sent to a verified server only.
    guarded: bool,
}

impl std::fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValues(…)")
    }
}

impl SecretValues {
    /// How to reach the database, and as whom.
    pub fn upstream(&self, database: &Database) -> Result<UpstreamConfig, SecretError> {
        let credential = if self.guarded { Credential::guarded } else { Credential::new };
        Ok(UpstreamConfig {
            host: database.host.clone(),
            port: database.port,
            database: database.name.clone(),
            credential: credential(&self.user, &self.password),
            tls: Tls::new(database.tls, self.ca.as_ref().map(|ca| ca.as_slice()))?,
            timeout: CONNECT_TIMEOUT,
        })
    }

    /// The startup settings that carry the keys of `hash` masks.
    pub fn hash_settings(&self) -> Vec<(String, String)> {
        self.hash_keys.iter().flat_map(|(hash_key, value)| hash_key.settings(value)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;

    /// A folder of the test's own, gone when it ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("postern-files-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn policy(name: &str, relation: &str) -> String {
        format!(
            "apiVersion: postern.dev/v1alpha1\nkind: DatabaseAccessPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
             database: {{host: localhost, port: 5432, name: shop, tls: {{mode: Disable}}, credentials: {{secret: {{name: db}}}}}}\n  \
             rules: [{{name: r, to: {{identities: [a]}}, allow: [Select], relations: [{relation}]}}]\n"
        )
    }

    fn identity(name: &str) -> String {
        format!(
            "apiVersion: postern.dev/v1alpha1\nkind: NonHumanIdentity\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
             subjects: [{{serviceAccount: {{name: {name}}}}}]\n  postgresRole: r\n"
        )
    }

    fn named(name: &str) -> ObjectName {
        ObjectName { namespace: None, name: name.to_owned() }
    }

    fn sources(paths: &[PathBuf]) -> Sources {
        Sources { paths: paths.to_vec(), policy: None }
    }

    #[test]
    fn a_folder_stands_for_the_manifests_in_it() {
        let folder = Folder::new("folder");
        folder.write("p.yaml", &policy("p", "public.t"));
        folder.write("i.yml", &format!("{}---\n{}", identity("a"), identity("b")));
        folder.write("README.md", "not a manifest");
        folder.write(".hidden.yaml", "not: a manifest");
        let texts = Texts::read(std::slice::from_ref(&folder.0)).unwrap();
        let objects = Objects::compile(&texts).unwrap();
        assert_eq!((objects.policies.len(), objects.identities.len()), (1, 2));
        let policy = objects.policy(None).unwrap();
        assert_eq!(objects.identity(&named("b"), &policy).unwrap().name, "b");
        let error = objects.identity(&named("c"), &policy).unwrap_err();
        assert_eq!(error, "namespace shop has no NonHumanIdentity c (it has: a, b)");
    }

    #[test]
    fn which_policy_is_meant_must_be_clear() {
        let folder = Folder::new("which");
        let file = folder.write("p.yaml", &format!("{}---\n{}", policy("p", "public.t"), policy("q", "public.t")));
        let objects = Objects::compile(&Texts::read(&[file]).unwrap()).unwrap();
        let error = objects.policy(None).unwrap_err();
        assert_eq!(error, "the files hold several policies: say which with --policy-name (shop/p, shop/q)");
        assert_eq!(objects.policy(Some(&named("q"))).unwrap().name, "q");
        assert!(objects.policy(Some(&ObjectName { namespace: Some("x".into()), name: "q".into() })).is_err());
    }

    #[test]
    fn an_object_in_two_files_is_a_mistake_that_names_both() {
        let folder = Folder::new("twice");
        let files =
            [folder.write("1.yaml", &policy("p", "public.t")), folder.write("2.yaml", &policy("p", "public.t"))];
        let Mistakes(mistakes) = Objects::compile(&Texts::read(&files).unwrap()).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(
            mistakes[0].contains("2.yaml: DatabaseAccessPolicy shop/p is in") && mistakes[0].contains("1.yaml, too")
        );
    }

    #[test]
    fn a_valid_change_counts_once_it_was_seen_twice_and_an_invalid_one_is_told_once() {
        let folder = Folder::new("watch");
        let text = |relation: &str| format!("{}---\n{}", policy("p", relation), identity("a"));
        let file = folder.write("p.yaml", &text("public.t"));
        let sources = sources(std::slice::from_ref(&file));
        let texts = Texts::read(&sources.paths).unwrap();
        let mut watch = Watch::new(sources, named("a"), texts);
        assert_eq!(watch.look(), None);

        folder.write("p.yaml", &text("public.u"));
        assert_eq!(watch.look(), None);
        let loaded = watch.look().unwrap().unwrap();
        assert_eq!(loaded.policy.rules[0].relations[0].to_string(), "public.u");
        assert_eq!(watch.look(), None);

        folder.write("p.yaml", &text("public.u").replace("allow", "alow"));
        assert_eq!(watch.look(), None);
        let mistake = watch.look().unwrap().unwrap_err();
        assert!(mistake.contains("alow"), "{mistake}");
        assert_eq!((watch.look(), watch.look()), (None, None));

        // What was in force before the mistake is told again, so that whoever reports mistakes knows that it is over.
        folder.write("p.yaml", &text("public.u"));
        assert_eq!(watch.look(), None);
        assert!(watch.look().unwrap().is_ok());

        std::fs::remove_file(&file).unwrap();
        assert_eq!(watch.look(), None);
        assert!(watch.look().unwrap().unwrap_err().starts_with("failed to read"));
    }

    #[test]
    fn a_mounted_volume_that_swaps_its_links_is_followed() {
        use std::os::unix::fs::symlink;
        let folder = Folder::new("links");
        let text = |relation: &str| format!("{}---\n{}", policy("p", relation), identity("a"));
        folder.write("..1/p.yaml", &text("public.t"));
        symlink("..1", folder.0.join("..data")).unwrap();
        symlink("..data/p.yaml", folder.0.join("p.yaml")).unwrap();
        let sources = sources(std::slice::from_ref(&folder.0));
        let texts = Texts::read(&sources.paths).unwrap();
        let mut watch = Watch::new(sources, named("a"), texts);
        folder.write("..2/p.yaml", &text("public.u"));
        symlink("..2", folder.0.join("..tmp")).unwrap();
        std::fs::rename(folder.0.join("..tmp"), folder.0.join("..data")).unwrap();
        assert_eq!(watch.look(), None);
        assert!(watch.look().unwrap().is_ok());
    }

    #[test]
    fn a_secret_loses_its_last_line_feed_and_is_never_shown() {
        let folder = Folder::new("secrets");
        folder.write("s/db/username", "me\n");
        folder.write("s/db/password", "hush\r\n");
        let secrets = Secrets::new(folder.0.join("s"));
        let file = folder.write("p.yaml", &policy("p", "public.t"));
        let objects = Objects::compile(&Texts::read(&[file]).unwrap()).unwrap();
        let values = secrets.read(&objects.policies[0]).unwrap();
        assert_eq!((values.user.as_str(), values.password.as_str()), ("me", "hush"));
        let upstream = values.upstream(&objects.policies[0].database).unwrap();
        assert!(!format!("{values:?}{upstream:?}").contains("hush"));

        folder.write("s/db/password", "");
        let error = secrets.read(&objects.policies[0]).unwrap_err().to_string();
        assert_eq!(error, "key 'password' of secret 'db' is empty");
        folder.write("s/db/password", "hush\nmore");
        let error = secrets.read(&objects.policies[0]).unwrap_err().to_string();
        assert_eq!(error, "key 'password' of secret 'db' is more than one line");
    }

    #[test]
    fn the_names_of_secrets_do_not_leave_their_folder() {
        let secrets = Secrets::new("/".into());
        for (secret, key) in
            [("etc", ".."), ("..", "x"), ("etc/ssl", "x"), ("etc", "../etc/passwd"), ("", "x"), (".", "x")]
        {
            assert!(matches!(secrets.key(secret, key), Err(SecretError::Name(_))), "{secret} {key}");
        }
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = read_bounded(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }), "{error}");
    }
}

//! The documents as a stranger uses them: their commands, as they are written and in their order.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use postern_e2e::workspace;

use super::{SHOP, Story, eventually};

/// What stands for a value of the reader's own, and what the sample's is.
const OWN: (&str, &str) = ("…", "change-me");

#[test]
#[ignore = "some minutes; the installation is always done as the document says"]
fn what_the_documents_say_works_as_it_is_written() {
    let Some(story) = Story::begin() else { return };
    let reader = Reader::new(&story);
    let readme = fenced(&fs::read_to_string(workspace().join("README.md")).unwrap(), "## In a cluster", "sh");
    assert!(reader.does(&readme[0]).contains("***************9012"));
    reader.does(&uninstallation());
    story.admin.kubectl(&["delete", "namespace", SHOP, "--timeout=180s"]).unwrap();

    reader.does(&installation());
    let first_policy = fs::read_to_string(workspace().join("docs/first-policy.md")).unwrap();
    reader.does(&indented("docs/first-policy.md", "# A first policy", "\n## "));
    story.rolled_out("nightly-report");
    eventually("the policy's sidecar", || reader.does("kubectl -n shop get dap").contains(" 1 ").then_some(()));
    reader.does(&indented("docs/first-policy.md", "## 5. Look", "\n## "));
    story.admin.kubectl(&["delete", "namespace", SHOP, "--timeout=180s"]).unwrap();

    // And step by step, with a database that is there and a workload that knows nothing of Postern.
    story.admin.kubectl(&["create", "namespace", SHOP]).unwrap();
    story.apply_sample("1-database.yaml");
    story.rolled_out("pg");
    let psql = "kubectl -n shop exec -i deploy/pg -- psql -h /tmp -U postgres -d shop -v ON_ERROR_STOP=1";
    let roles = fenced(&first_policy, "## 1. A login", "sql")[0].replace(OWN.0, OWN.1);
    let undone = "DROP OWNED BY reporting_ro, postern; DROP ROLE postern, reporting_ro;";
    reader.does(&format!("{psql} <<'END'\n{undone}\n{roles}\nEND"));
    reader.does(&indented("docs/first-policy.md", "## 1. A login", "\n## ").replace(OWN.0, OWN.1));
    for object in fenced(&first_policy, "## 2. Who", "yaml").iter().take(2) {
        // The sample's database has no certificate.
        let object = object.replace("{mode: VerifyFull, caSecret: {name: shop-pg-ca, key: ca.crt}}", "{mode: Disable}");
        reader.does(&format!("kubectl apply -f - <<'END'\n{object}\nEND"));
    }
    let app = fs::read_to_string(reader.folder.join("docs/samples/shop/3-app.yaml")).unwrap();
    let plain = app.replace("  annotations: {postern.dev/inject: shop}   # the policy\n", "");
    assert_ne!(plain, app);
    story.admin.apply(&plain).unwrap();
    story.rolled_out("nightly-report");
    reader.does(&indented("docs/first-policy.md", "## 4. Send", "\n    sidecar:"));
    story.rolled_out("nightly-report");
    // In mode Audit everything passes, as it is.
    assert!(reader.does(&indented("docs/first-policy.md", "## 5. Look", "\n## ")).contains("ada@example.com"));
    reader.does("kubectl -n shop patch dap shop --type=merge -p '{\"spec\": {\"mode\": \"Enforce\"}}'");
    eventually("mode Enforce", || {
        let rows =
            reader.does("kubectl -n shop exec deploy/nightly-report -c app -- psql -c 'SELECT email FROM customers'");
        (!rows.contains("ada@example.com")).then_some(())
    });
    reader.does(&uninstallation());
    story.admin.kubectl(&["delete", "namespace", SHOP, "--timeout=180s"]).unwrap();
}

/// A folder as the repository is, but for images that can't be pulled here.
pub(super) struct Reader<'a> {
    story: &'a Story,
    folder: PathBuf,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.folder);
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(story: &'a Story) -> Self {
        let folder = postern_e2e::temporary_folder("reader").unwrap();
        let (samples, bin) = (folder.join("docs/samples/shop"), folder.join("bin"));
        fs::create_dir_all(&samples).unwrap();
        fs::create_dir(&bin).unwrap();
        symlink(workspace().join("charts"), folder.join("charts")).unwrap();
        for file in fs::read_dir(workspace().join("docs/samples/shop")).unwrap().flatten() {
            let name = file.file_name();
            fs::write(samples.join(&name), super::sample(name.to_str().unwrap())).unwrap();
        }
        let kubectl = story.admin.command(&[]);
        let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
        let kubectl: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        program(&bin.join("kubectl"), &format!("exec {} \"$@\"", kubectl.join(" ")));
        let images =
            "case $1 in install) set -- \"$@\" --set images.registry=localhost,images.pullPolicy=Never ;; esac";
        let operator = postern_e2e::kubernetes::operator::program().unwrap();
        program(&bin.join("postern-operator"), &format!("exec '{}' \"$@\"", operator.display()));
        program(&bin.join("helm"), &format!("{images}\nexec '{}' \"$@\"", story.helm.display()));
        Self { story, folder }
    }

    /// Types these commands; what they print. Each has to succeed.
    pub(super) fn does(&self, commands: &str) -> String {
        assert!(!commands.trim().is_empty(), "no commands are left in the document");
        let mut shell = Command::new("sh");
        shell.args(["-euc", commands]).current_dir(&self.folder).env("KUBECONFIG", self.story.admin.kubeconfig());
        let path = format!("{}:{}", self.folder.join("bin").display(), std::env::var("PATH").unwrap());
        let output = shell.env("PATH", path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{commands}\n{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The part of a document that begins with this heading.
fn part<'a>(text: &'a str, heading: &str, until: &str) -> &'a str {
    let (_, after) = text.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
    after.split(until).next().unwrap()
}

/// The commands of a part: what is indented, outside of fences.
fn indented(file: &str, heading: &str, until: &str) -> String {
    let text = fs::read_to_string(workspace().join(file)).unwrap();
    let outside = part(&text, heading, until).split("```").step_by(2).collect::<String>();
    let lines = outside.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The fenced blocks of this kind from a heading on.
fn fenced(text: &str, heading: &str, kind: &str) -> Vec<String> {
    let blocks = part(text, heading, "\n```end of document").split("```").skip(1).step_by(2);
    blocks.filter_map(|block| Some(block.strip_prefix(kind)?.strip_prefix('\n')?.to_owned())).collect()
}

pub(super) fn installation() -> String {
    indented("docs/install.md", "# Install", "\n## ")
}

fn uninstallation() -> String {
    indented("docs/install.md", "## Upgrade and uninstall", "\n## ")
}

//! `postern-ci`, which starts a sidecar in a job of CI. The token that the jobs have here is the pod's.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use postern_e2e::gate::sidecar;
use postern_e2e::postgres::Server;
use postern_e2e::workspace;

use super::shop::{Shop, shop, wait_until};

/// A job that may use the policy, with nothing of how it proves that.
fn job(shop: &Shop, arguments: &[&str]) -> Command {
    let injected = shop.injected();
    let variables = injected["env"].as_array().unwrap();
    let bundle = variables.iter().find(|it| it["name"] == "POSTERN_BROKER_CA").unwrap()["value"].as_str().unwrap();
    let file = shop.folder.join("ca.pem");
    fs::write(&file, bundle).unwrap();
    let mut job = Command::new(workspace().join("docs/samples/outside/postern-ci"));
    job.args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", &shop.folder)
        .env("TMPDIR", &shop.folder)
        .env("POSTERN_SIDECAR", sidecar().unwrap())
        .env("POSTERN_BROKER", format!("https://127.0.0.1:{}", shop.operator().broker()))
        .env("POSTERN_BROKER_CA_FILE", file)
        .env("POSTERN_RESOURCE", format!("postern:{}/orders", shop.namespace.name()))
        .env("POSTERN_LISTEN", "127.0.0.1:0");
    job
}

fn psql() -> String {
    Server::shared().unwrap().program("psql").get_program().to_string_lossy().into_owned()
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The folders of jobs that are left.
fn left(shop: &Shop) -> Vec<PathBuf> {
    let entries = fs::read_dir(&shop.folder).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("postern-ci")).collect()
}

#[test]
fn a_command_of_a_job_reaches_the_database_by_the_token_that_github_gives() {
    let Some(shop) = shop("1h") else { return };
    let github = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token?api-version=1", github.local_addr().unwrap());
    let (token, audience) = (shop.token(), format!("audience=postern/{} ", shop.namespace.name()));
    std::thread::spawn(move || {
        for stream in github.incoming().flatten() {
            answer(stream, &audience, &token);
        }
    });
    let run = |arguments: &[&str]| {
        let output = job(&shop, arguments)
            .env("GITHUB_ACTIONS", "true")
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", &url)
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job")
            .output()
            .unwrap();
        told(&output)
    };
    let asked = run(&["exec", "--log=info", "--", &psql(), "-XAtc", "SELECT a + 1 FROM t"]);
    assert_eq!((asked.0, asked.1.as_str()), (Some(0), "2"), "{asked:?}");
    let refused = run(&["exec", "--", &psql(), "-XAtc", "TABLE u"]);
    assert!(refused.0 == Some(1) && refused.2.contains("permission denied"), "{refused:?}");
    assert_eq!(run(&["exec", "--", "sh", "-c", "exit 7"]).0, Some(7), "the job ends as its command does");
    assert_eq!(left(&shop), [] as [PathBuf; 0]);
    // The sidecar ended after the broker had its audit.
    let statements = shop.kept().iter().filter(|event| event["event"] == "statement").count();
    assert_eq!(statements, 2);
}

/// As the service of GitHub that gives a job its tokens does.
fn answer(mut stream: TcpStream, audience: &str, token: &str) {
    let lines: Vec<String> =
        BufReader::new(&stream).lines().map_while(Result::ok).take_while(|it| !it.is_empty()).collect();
    let authorized = lines.iter().any(|line| line.eq_ignore_ascii_case("authorization: bearer of-the-job"));
    let (status, body) = if authorized && lines[0].contains(audience) {
        ("200 OK", format!("{{\"count\":1,\"value\":\"{token}\"}}"))
    } else {
        ("401 Unauthorized", String::new())
    };
    _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
}

#[test]
fn what_follows_a_start_in_a_job_finds_the_database_until_it_is_stopped() {
    let Some(shop) = shop("1h") else { return };
    let token = shop.token();
    let run = |arguments: &[&str]| told(&job(&shop, arguments).env("POSTERN_ID_TOKEN", &token).output().unwrap());
    let started = run(&["start"]);
    assert_eq!(started.0, Some(0), "{started:?}");
    let script = format!(". '{}' && exec {} -XAtc 'SELECT a FROM t'", started.1, psql());
    let asked = told(&Command::new("sh").args(["-c", &script]).env_clear().output().unwrap());
    assert_eq!((asked.0, asked.1.as_str()), (Some(0), "1"), "{asked:?}");
    let again = run(&["start"]);
    assert!(again.0 == Some(1) && again.2.contains("it runs already"), "{again:?}");
    assert_eq!(run(&["stop"]).0, Some(0));
    assert!(!left(&shop)[0].join("env").exists() && !left(&shop)[0].join("token").exists());
    assert!(shop.kept().iter().any(|event| event["event"] == "session_end"), "the broker has the audit");

    // In GitHub Actions later steps have the variables of a file.
    let file = shop.folder.join("github-env");
    assert!(
        job(&shop, &["start"]).env("POSTERN_ID_TOKEN", &token).env("GITHUB_ENV", &file).status().unwrap().success()
    );
    let variables = fs::read_to_string(&file).unwrap();
    assert!(
        variables.starts_with("PGHOST=127.0.0.1\nPGPORT=") && variables.contains("\nPGUSER=report\n"),
        "{variables}"
    );
    assert_eq!(run(&["stop"]).0, Some(0));
}

#[test]
fn a_job_that_can_not_reach_the_database_says_why() {
    let Some(shop) = shop("1h") else { return };
    let without = told(&job(&shop, &["exec", "--", "true"]).output().unwrap());
    assert!(without.0 == Some(1) && without.2.contains("no token"), "{without:?}");
    let without = told(&job(&shop, &["exec", "--", "true"]).env("GITHUB_ACTIONS", "true").output().unwrap());
    assert!(without.2.contains("id-token: write"), "{without:?}");
    let nameless = told(&job(&shop, &["start"]).env_remove("POSTERN_RESOURCE").output().unwrap());
    assert!(nameless.0 == Some(1) && nameless.2.contains("which policy?"), "{nameless:?}");
    let forged = shop.token().replace('.', ".A");
    for (command, why) in [
        ("echo no-token", "invalid_grant"),
        (&*format!("echo {forged}"), "invalid_grant"),
        ("echo oh >&2; false", "oh"),
    ] {
        let refused = job(&shop, &["exec", "--token-command", command, "--", "true"])
            .env("POSTERN_CI_TIMEOUT", "3")
            .output()
            .unwrap();
        let refused = told(&refused);
        assert!(
            refused.0 == Some(1) && refused.2.to_lowercase().contains(&why.replace('_', "")),
            "{command}: {refused:?}"
        );
        assert!(!refused.2.contains(&forged));
    }
    wait_until("the end of all that was started", || left(&shop).is_empty());
}

/// The script in a folder of its own, with these variables and nothing else.
fn script(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(workspace().join("docs/samples/outside/postern-ci"));
    command.args(arguments).env_clear().env("TMPDIR", folder);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn what_asks_github_for_a_token_is_no_argument_that_everybody_sees() {
    let folder = postern_e2e::temporary_folder("ci").unwrap();
    let curl = folder.join("curl");
    fs::write(
        &curl,
        "#!/bin/sh\necho \"$*\" >\"$TMPDIR/arguments\"\ncat >\"$TMPDIR/input\"\necho '{\"value\":\"a.b.c\"}'\n",
    )
    .unwrap();
    fs::set_permissions(&curl, fs::Permissions::from_mode(0o700)).unwrap();
    let github = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://github.example/token?api-version=1"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token"),
    ];
    let (status, said, _) = told(&script(&folder, &["github-token", "postern/shop"], &github));
    assert_eq!((status, said.as_str()), (Some(0), "a.b.c"));
    let of = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(!of("arguments").contains("request-token"), "{}", of("arguments"));
    assert!(of("arguments").contains("audience=postern/shop"), "{}", of("arguments"));
    assert_eq!(of("input"), "header = \"Authorization: bearer request-token\"\n");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_whose_name_somebody_else_took_is_not_used() {
    let folder = postern_e2e::temporary_folder("ci").unwrap();
    let theirs = folder.join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("pid"), "1").unwrap();
    let ours = folder.join("ours");
    std::os::unix::fs::symlink(&theirs, &ours).unwrap();
    let variables = [
        ("POSTERN_CI_DIR", ours.to_str().unwrap()),
        ("POSTERN_RESOURCE", "postern:shop/orders"),
        ("POSTERN_ID_TOKEN", "a.b.c"),
        ("POSTERN_SIDECAR", "false"),
    ];
    for command in ["start", "stop"] {
        let (status, _, why) = told(&script(&folder, &[command], &variables));
        assert!(status == Some(1) && why.contains("is not a folder of this user's"), "{command}: {why}");
    }
    assert!(!theirs.join("token").exists());
    fs::remove_dir_all(folder).unwrap();
}

//! Debian's xenstore-utils, unchanged, against the example server.
//!
//! The tools are looked for under the directory that `STORE_TOOLS` names: a tree as `dpkg -x` unpacks the packages
//! `xenstore-utils`, `libxenstore4`, `libxentoolcore1` (and, for xenstore-control, `xen-utils-4.17` and its
//! libraries). With `STORE_TOOLS=fetch` the test fetches and unpacks them itself. Without, it says that it is skipped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PACKAGES: &[&str] = &[
    "xenstore-utils",
    "libxenstore4",
    "libxentoolcore1",
    "xen-utils-4.17",
    "libxenmisc4.17",
    "libxentoollog1",
    "libxencall1",
    "libxenevtchn1",
    "libxengnttab1",
    "libxenforeignmemory1",
    "libxendevicemodel1",
];

/// The tree with the tools in it, or why there is none.
fn tools() -> Result<PathBuf, String> {
    let wanted = std::env::var_os("STORE_TOOLS").ok_or("STORE_TOOLS is not set")?;
    let root = if wanted == "fetch" {
        fetch()?
    } else {
        PathBuf::from(wanted)
    };
    let tool = root.join("usr/bin/xenstore-ls");
    if tool.exists() {
        Ok(root)
    } else {
        Err(format!("{} does not exist", tool.display()))
    }
}

fn fetch() -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xenstore-utils");
    let root = directory.join("root");
    if root.join("usr/bin/xenstore-ls").exists() {
        return Ok(root);
    }
    std::fs::create_dir_all(&root).map_err(|error| error.to_string())?;
    let fetched = Command::new("apt-get")
        .arg("download")
        .args(PACKAGES)
        .current_dir(&directory)
        .output();
    match fetched {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            return Err(format!(
                "apt-get: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        Err(error) => return Err(format!("apt-get: {error}")),
    }
    for entry in std::fs::read_dir(&directory)
        .map_err(|error| error.to_string())?
        .flatten()
    {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            let unpacked = Command::new("dpkg")
                .arg("-x")
                .arg(entry.path())
                .arg(&root)
                .status();
            if !unpacked.is_ok_and(|status| status.success()) {
                return Err(format!("dpkg cannot unpack {}", entry.path().display()));
            }
        }
    }
    Ok(root)
}

/// The example server, ended with the value.
struct Server {
    child: Child,
    directory: PathBuf,
    root: PathBuf,
}

impl Server {
    fn start(root: PathBuf) -> Self {
        // A socket's path is short, the target directory's may not be.
        let directory = std::env::temp_dir().join(format!("store-tools-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let child = Self::spawn(&directory);
        let server = Self {
            child,
            directory,
            root,
        };
        server.wait();
        server
    }

    fn spawn(directory: &Path) -> Child {
        let test = std::env::current_exe().unwrap();
        let example = test
            .parent()
            .and_then(Path::parent)
            .unwrap()
            .join("examples/serve");
        Command::new(example)
            .arg(directory)
            .stderr(Stdio::null())
            .spawn()
            .expect("the example is built with the tests")
    }

    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while !self.run("xenstore-exists", &["/tool"]).status.success() {
            assert!(Instant::now() < until, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, tool: &str) -> Command {
        let place = if tool == "xenstore-control" {
            "usr/lib/xen-4.17/bin"
        } else {
            "usr/bin"
        };
        let mut command = Command::new("timeout");
        command.arg("20").arg(self.root.join(place).join(tool));
        command.env("XENSTORED_RUNDIR", &self.directory);
        command.env(
            "LD_LIBRARY_PATH",
            self.root.join("usr/lib/x86_64-linux-gnu"),
        );
        command
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> Output {
        self.command(tool).args(arguments).output().unwrap()
    }

    /// What the tool prints; it must succeed.
    fn says(&self, tool: &str, arguments: &[&str]) -> String {
        let output = self.run(tool, arguments);
        assert!(
            output.status.success(),
            "{tool} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn debians_tools_work() {
    let root = match tools() {
        Ok(root) => root,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let mut server = Server::start(root);
    let watch = server
        .command("xenstore-watch")
        .args(["-n", "3", "/a"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    server.says("xenstore-write", &["/a/b", "one", "/a/c", "two words"]);
    let watched = watch.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(watched.stdout).unwrap(),
        "/a\n/a/b\n/a/c\n"
    );
    assert_eq!(
        server.says("xenstore-read", &["/a/b", "/a/c"]),
        "one\ntwo words\n"
    );
    assert_eq!(server.says("xenstore-list", &["/a"]), "b\nc\n");
    server.says("xenstore-chmod", &["/a/b", "n1", "r2", "b3"]);
    let listed = server.says("xenstore-ls", &["-f", "-p", "/a"]);
    assert_eq!(
        listed,
        "/a/b = \"one\"   (n1,r2,b3)\n/a/c = \"two words\"   (n0)\n"
    );
    assert!(server.run("xenstore-exists", &["/a/b"]).status.success());
    assert!(!server.run("xenstore-exists", &["/a/zzz"]).status.success());
    assert!(!server.run("xenstore-read", &["/zzz"]).status.success());
    server.says("xenstore-rm", &["-t", "/a/b"]);
    assert_eq!(
        server.says("xenstore-ls", &["-f"]),
        "/a = \"\"\n/a/c = \"two words\"\n/tool = \"\"\n/tool/xenstored = \"\"\n"
    );

    server.kill();
    server.child = Server::spawn(&server.directory);
    server.wait();
    assert_eq!(
        server.says("xenstore-read", &["/a/c"]),
        "two words\n",
        "it was acknowledged before the kill"
    );

    if server
        .root
        .join("usr/lib/xen-4.17/bin/xenstore-control")
        .exists()
    {
        assert_eq!(server.says("xenstore-control", &["check"]).trim_end(), "OK");
        assert_eq!(
            server
                .says("xenstore-control", &["print", "hello"])
                .trim_end(),
            "OK"
        );
        assert!(
            server
                .says("xenstore-control", &["help"])
                .contains("quota\t")
        );
        assert!(
            server
                .says("xenstore-control", &["quota"])
                .contains("watches          :      128 ")
        );
        assert!(!server.run("xenstore-control", &["bogus"]).status.success());
    } else {
        eprintln!("xenstore-control is not there and was not tried");
    }
}

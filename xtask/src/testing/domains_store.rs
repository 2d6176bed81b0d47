//! Debian's `xenstore-utils`, unchanged, on the store of the daemon: by its socket, and by the kernel's device.

use anyhow::{Result, ensure};

use crate::testing::guided::Guided;

/// A command, and all that it prints, lines joined by a space, with its exit code.
const SAYS: &[(&str, &str)] = &[
    ("xenstore-write /tools/b one /tools/c 'two words'", "0"),
    ("xenstore-read /tools/b /tools/c", "one two words 0"),
    ("xenstore-read -p /tools/b", "/tools/b: one 0"),
    ("xenstore-list /tools", "b c 0"),
    ("xenstore-exists /tools/b", "0"),
    ("xenstore-exists /tools/z", "1"),
    ("xenstore-chmod /tools/b n1 r2 b3", "0"),
    (
        "xenstore-ls -f -p /tools",
        "/tools/b = \"one\" (n1,r2,b3) /tools/c = \"two words\" (n0) 0",
    ),
    ("xenstore-rm -t /tools/b", "0"),
    ("xenstore-ls /tools", "c = \"two words\" 0"),
    // What is shown is the one store of the guests and of our own command.
    ("xeno store read /tools/c", "two words 0"),
    ("xenstore-read /local/domain/1/name", "guest1 0"),
    ("xenstore-rm /tools", "0"),
    ("xenstore-exists /tools", "1"),
];

/// The two ways to the store: the tools take the socket if nobody says otherwise.
const WAYS: [&str; 2] = ["/var/run/xenstored/socket", "/dev/xen/xenbus"];

/// Each tool does what its manual says, both ways; a watch tells what changes, and is on the way it should be.
pub fn tools(guided: &mut Guided<'_>) -> Result<()> {
    for way in WAYS {
        let path = if way == WAYS[0] {
            String::new()
        } else {
            format!("env XENSTORED_PATH={way} ")
        };
        for (command, wanted) in SAYS {
            let said = guided.output(&format!("{path}{command}; echo $?"))?;
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            ensure!(
                said == *wanted,
                "`{path}{command}` says {said:?}, not {wanted:?}"
            );
        }
        guided.done(&format!(
            "(exec {path}xenstore-watch -n 3 /watched) > /tmp/watched & watcher=$!"
        ))?;
        guided.until("grep -qx /watched /tmp/watched")?;
        let open = guided.done("ls -l /proc/$watcher/fd | grep -c -e socket: -e xenbus")?;
        let socket = guided.output("ls -l /proc/$watcher/fd | grep -c socket:")?;
        let by_socket = if way == WAYS[0] { "1" } else { "0" };
        ensure!(
            open == "1" && socket.trim() == by_socket,
            "of {open} ways to the store {socket} are sockets, not {by_socket}"
        );
        guided.done("xenstore-write /watched/x 1; xenstore-rm /watched; wait $watcher")?;
        let told = guided.done("cat /tmp/watched")?;
        let told: Vec<&str> = told.split_whitespace().collect();
        ensure!(
            told == ["/watched", "/watched/x", "/watched"],
            "the watch told {told:?}"
        );
    }
    Ok(())
}

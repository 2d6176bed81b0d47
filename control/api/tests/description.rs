//! Descriptions as people write them: what is taken, and what is told when one is wrong.

use std::path::Path;

use xeno_api::{Access, Draft, Guest, OnStop};

const FULL: &str = r#"
    name = "web"
    kernel = "vmlinuz"          # from where this file is
    initrd = "/boot/initrd"
    cmdline = "console=hvc0"
    memory = "96M"
    vcpus = 1
    on_crash = "destroy"
    [[disks]]
    file = "../a.img"
    mode = "rw"
"#;

fn wrong(text: &str) -> String {
    Guest::from_toml(text, "web.toml", Path::new("/etc/xeno"))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_file_says_the_same_as_a_request() {
    let read = Guest::from_toml(FULL, "web.toml", Path::new("/etc/xeno")).unwrap();
    assert_eq!(read.kernel, Path::new("/etc/xeno/vmlinuz"));
    assert_eq!(read.disks[0].file, Path::new("/etc/xeno/../a.img"));
    assert_eq!(read.initrd.as_deref(), Some(Path::new("/boot/initrd")));
    assert_eq!(
        (read.disks[0].mode, read.disks[0].device.as_str()),
        (Access::ReadWrite, "xvda")
    );
    assert_eq!(
        (read.memory.bytes(), read.vcpus, read.on_crash),
        (96 << 20, 1, OnStop::Destroy)
    );
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<Guest>(&json).unwrap(), read);
    assert_eq!(read.check(), Ok(()));
}

#[test]
fn three_keys_are_enough() {
    let text = "name = 'a'\nkernel = '/k'\nmemory = '1G'";
    let read = Guest::from_toml(text, "a", Path::new("/")).unwrap();
    assert_eq!((read.vcpus, read.cmdline.as_str()), (1, "console=hvc0"));
    assert_eq!(
        (read.on_poweroff, read.on_reboot),
        (OnStop::Destroy, OnStop::Restart)
    );
}

#[test]
fn each_mistake_is_told_with_line_key_and_what_was_expected() {
    for (text, told) in [
        (
            "nmae = 'a'",
            "web.toml:1: nmae: no such key: expected one of name, kernel, initrd,",
        ),
        (
            "\n\nmemory = 96",
            "web.toml:3: memory: expected a size in quotes, such as \"96M\", found an integer",
        ),
        (
            "memory = '96'",
            "web.toml:1: memory: \"96\" is not a size: expected a number of whole pages",
        ),
        (
            "memory = '512K'",
            "web.toml:1: memory: 512K holds no kernel",
        ),
        ("name = '7'", "web.toml:1: name: \"7\" is not a name"),
        (
            "vcpus = 65",
            "web.toml:1: vcpus: 65 is out of range: expected 1 to 64",
        ),
        ("vcpus = -1", "web.toml:1: vcpus: -1 is out of range"),
        (
            "vcpus = 99999999999999999999",
            "web.toml:1: vcpus: this number is out of range",
        ),
        (
            "vcpus = '1'",
            "web.toml:1: vcpus: expected a number, found a string",
        ),
        ("kernel = ''", "web.toml:1: kernel: \"\" is not a path"),
        (
            "on_crash = 'explode'",
            "web.toml:1: on_crash: \"explode\" is not known: expected \"destroy\"",
        ),
        (
            "disks = 'a.img'",
            "web.toml:1: disks: expected a list of disks",
        ),
        (
            "disks = ['a.img']",
            "web.toml:1: disks[0]: expected a disk, such as { file",
        ),
        (
            "disks = [\n{ file = 'a', mode = 'w' }]",
            "web.toml:2: disks[0].mode: \"w\" is not known",
        ),
        (
            "disks = [{ mode = 'ro' }]",
            "web.toml:1: disks[0].file: it is missing",
        ),
        (
            "disks = [{ file = 'a', device = 'hda' }]",
            "web.toml:1: disks[0].device: \"hda\" is not a disk",
        ),
        (
            "disks = [{ file = 'a', fiel = 'hda' }]",
            "web.toml:1: disks[0].fiel: no such key",
        ),
        ("cmdline = 'é\u{1}'", "web.toml:1: this is not TOML"),
        (
            "cmdline = \"a\\u0001\"",
            "web.toml:1: cmdline: the character '\\u{1}'",
        ),
        (
            "name = 'a'\nname = 'b'",
            "web.toml:2: this is not TOML: duplicate key",
        ),
        ("name = ", "web.toml:1: this is not TOML"),
        ("", "web.toml: name: it is missing"),
        (
            "cpu = 5",
            "web.toml:1: cpu: expected a reservation, such as { slice",
        ),
        (
            "cpu = { slcie = '1ms' }",
            "web.toml:1: cpu.slcie: no such key: expected one of slice, period,",
        ),
        (
            "[cpu]\nslice = 5\nperiod = '20ms'",
            "web.toml:2: cpu.slice: expected a length of time, such as \"5ms\", found an integer",
        ),
        (
            "\ncpu = { slice = '5ms' }",
            "web.toml:2: cpu.period: it is missing: expected a length of time",
        ),
        (
            "[cpu]\nperiod = '1ms'\nslice = '2ms'",
            "web.toml:3: cpu.slice: 2ms is longer than its period, 1ms",
        ),
        (
            "cpu = { slice = '1ms', period = '2ms', extra = 1 }",
            "web.toml:1: cpu.extra: expected true or false, found an integer",
        ),
        (
            "cpu = { extra = true, weight = 65536 }",
            "web.toml:1: cpu.weight: 65536 is out of range: expected 1 to 65535",
        ),
        (
            "cpu = { quanta = 0, period = 10 }",
            "web.toml:1: cpu.quanta: 0 is out of range: expected 1 to 4294967295",
        ),
        (
            "cpu = { quanta = 2, period = '10ms' }",
            "web.toml:1: cpu.period: expected a number of quanta",
        ),
    ] {
        let error = wrong(text);
        assert!(error.starts_with(told), "{text:?} gives {error:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = wrong("name = 1\nmemory = 2\n\nx = 3");
    assert_eq!(error.lines().count(), 3, "{error}");
    let missing = wrong("name = 'a'");
    assert!(
        missing.contains("kernel: it is missing") && missing.contains("memory: it is missing"),
        "{missing}"
    );
}

#[test]
fn disks_without_a_name_get_the_first_free_one() {
    let text = "name='a'\nkernel='/k'\nmemory='1G'\ndisks=[{file='x'},{file='y',device='xvda'},{file='z'}]";
    let read = Guest::from_toml(text, "a", Path::new("/")).unwrap();
    let names: Vec<&str> = read.disks.iter().map(|disk| disk.device.as_str()).collect();
    assert_eq!(names, ["xvdb", "xvda", "xvdc"]);
}

#[test]
fn options_win_over_the_file() {
    let file = Draft::from_toml(FULL, "f", Path::new("/")).unwrap();
    let over = Draft {
        memory: Some("1G".parse().unwrap()),
        ..Draft::default()
    };
    let guest = file.overridden(over).finish().unwrap();
    assert_eq!(
        (guest.memory.to_string().as_str(), guest.name.as_str()),
        ("1G", "web")
    );
}

#[test]
fn a_reservation_has_three_forms() {
    for (text, read) in [
        (
            "cpu = { slice = '5ms', period = '20ms', extra = false }",
            "slice=5ms,period=20ms",
        ),
        (
            "[cpu]\nslice = '5ms'\nperiod = '20ms'\nextra = true\nweight = 512",
            "slice=5ms,period=20ms,extra=true,weight=512",
        ),
        ("cpu = { quanta = 2, period = 10 }", "quanta=2,period=10"),
        ("cpu = { extra = true }", "extra=true"),
    ] {
        let text = format!("name='a'\nkernel='/k'\nmemory='1G'\n{text}");
        let guest = Guest::from_toml(&text, "a", Path::new("/")).unwrap();
        assert_eq!(guest.cpu, Some(read.parse().unwrap()), "{text}");
        assert_eq!(guest.check(), Ok(()));
        let json = serde_json::to_string(&guest).unwrap();
        assert_eq!(serde_json::from_str::<Guest>(&json).unwrap(), guest);
    }
}

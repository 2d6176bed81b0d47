//! What a machine has to have said, or must not, whatever it did.

/// The emulator's exit device never gives less than this for a failure: status 1 is the emulator's own.
pub const EXIT_BY_PORT_AT_LEAST: i32 = 3;

/// What the hypervisor says when the fault is its own, which no test may see.
pub const RING0_CRASHED: &str = "ring 0 crashed";

/// How many processors our hypervisor said that it started. Another one says it in other words.
fn cpus_started(console: &str) -> Option<u32> {
    console.lines().find_map(|line| {
        let said = line.trim_end().strip_prefix("(xeno) ")?;
        let count = said
            .strip_suffix(" CPUs run")
            .or(said.strip_suffix(" CPU runs"))?;
        count.parse().ok()
    })
}

/// All processors run, if the hypervisor is ours.
///
/// # Errors
/// What is wrong.
pub fn check_cpus_started(console: &str, wanted: u32) -> Result<(), String> {
    let ours = console.contains("(xeno) ");
    match cpus_started(console) {
        Some(count) if count == wanted => Ok(()),
        None if !ours => Ok(()),
        Some(count) => Err(format!("{count} processors were started of {wanted}")),
        None => Err("the hypervisor did not say how many processors run".to_owned()),
    }
}

/// What it says before it builds a crashed control domain again.
pub const BUILT_ANEW: &str = "the control domain is built anew";

/// What it says first when the machine starts.
const STARTED: &str = "(xeno) xenoserver hypervisor ";

/// What our hypervisor says when it ends well: every cycle is in one account, and a recount of every frame's
/// references from the page tables finds what its records say. Another hypervisor says neither. A machine that was
/// started again has had last words each time it ended well; those of the last time must be there.
///
/// # Errors
/// What is wrong.
pub fn check_last_words(console: &str) -> Result<(), String> {
    let ours = console.contains("(xeno) ");
    let mut last = "";
    for start in console.split(STARTED) {
        let started = cpus_started(start).unwrap_or(1) as usize;
        // A domain that crashed has had last words too.
        last = start.rsplit(BUILT_ANEW).next().unwrap_or(start);
        // Each processor that runs has books.
        let balanced = last.matches("the books balance").count();
        if ours && balanced != 0 && balanced != started {
            return Err(format!(
                "the time accounts of {balanced} processors balance, where {started} run"
            ));
        }
    }
    for (good, what) in [
        (
            "the books balance",
            "the time accounts were not shown to balance",
        ),
        (
            "the accounts add up",
            "what the processors gave was not shown to be what domains have in their accounts",
        ),
        (
            "audit: all counts of",
            "the audit did not find all counts right",
        ),
    ] {
        if ours && !last.contains(good) {
            return Err(what.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: &str = "(xeno) 2 CPUs run\n(xeno) CPU 0: the books balance\n(xeno) CPU 1: the books balance\n\
                        (xeno) accounts: 1 given; the accounts add up\n\
                        (xeno) audit: all counts of 7 frames are right\n";

    #[test]
    fn each_start_of_a_machine_has_last_words_of_its_own() {
        let start = format!("{STARTED}0.1.0\n");
        let well = format!("{start}{WELL}");
        assert_eq!(check_last_words(&well), Ok(()));
        assert_eq!(check_last_words(&format!("{well}{well}")), Ok(()));
        // One that ended by a crash says nothing; the last one must.
        let crashed = format!("{start}(xeno) 2 CPUs run\n");
        assert_eq!(check_last_words(&format!("{crashed}{well}")), Ok(()));
        assert!(check_last_words(&format!("{well}{crashed}")).is_err());
        let wrong = WELL.replace("add up", "DO NOT ADD UP");
        assert!(check_last_words(&format!("{start}{wrong}")).is_err());
        // One processor's books are missing, in whichever start.
        let short = well.replacen("(xeno) CPU 1: the books balance\n", "", 1);
        assert!(check_last_words(&format!("{short}{well}")).is_err());
        assert!(check_last_words(&format!("{well}{short}")).is_err());
    }
}

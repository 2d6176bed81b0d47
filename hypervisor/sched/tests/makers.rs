//! Two who make books of the machine at a time.

use sched::{Makers, Overtaken};

#[test]
fn who_is_overtaken_moves_no_cpu() {
    let mut makers = Makers::new();
    let (first, together) = makers.begin();
    assert!(together, "nobody has moved any yet");
    let (second, _) = makers.begin();
    assert_eq!(makers.go_over(first), Err(Overtaken));
    assert_eq!(makers.check(first), Err(Overtaken));
    // The number that the second saw when it began is the one before its own.
    assert_eq!(makers.go_over(second), Ok(Makers::FIRST + 1));
}

#[test]
fn who_comes_while_cpus_go_over_has_them_come_together_first() {
    let mut makers = Makers::new();
    let (first, _) = makers.begin();
    assert_eq!(makers.go_over(first), Ok(2));
    let (second, together) = makers.begin();
    assert!(!together);
    // That they came for the first says nothing: it does not matter any more.
    assert_eq!(makers.are_together(first), Err(Overtaken));
    let (third, together) = makers.begin();
    assert!(!together, "nor has the second had them come");
    assert_eq!(makers.are_together(second), Err(Overtaken));
    assert_eq!(makers.are_together(third), Ok(()));
    assert_eq!(makers.go_over(third), Ok(3));
    assert_eq!(makers.are_together(third), Ok(()));
    assert!(makers.begin().1);
}

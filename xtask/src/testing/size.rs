//! Ring 0's size against its limits, as `cargo xtask stats --check` measures it.

use crate::stats;
use crate::testing::Context;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};

/// The one case.
pub fn cases() -> Vec<Case> {
    vec![Case {
        name: "size: image and memory are within their limits".to_owned(),
        tier: Tier::Quick,
        stage: Stage::Machine,
        needs: Needs::Guests,
        run: Box::new(one),
    }]
}

fn one(context: &Context) -> Outcome {
    match stats::collect(&context.tree) {
        Err(error) => Outcome::failed("could not be measured", format!("{error:#}")),
        Ok(stats) => match stats.complaints() {
            passed if passed.is_empty() => Outcome::passed(stats.note()),
            passed => Outcome::failed("a limit is passed", passed.join("\n")),
        },
    }
}

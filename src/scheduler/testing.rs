//! What property tests here share: how many cases, and saying so.

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseResult, TestRunner},
};

/// Runs a property and prints how often. `PROPTEST_CASES` asks for more than the quick default.
pub(crate) fn check<S: Strategy>(quick: u32, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let cases = match std::env::var("PROPTEST_CASES") {
        Ok(text) => text.parse().expect("PROPTEST_CASES is a number"),
        Err(_) => quick,
    };
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(strategy, property) {
        panic!("{error}");
    }
    println!("{cases} cases");
}

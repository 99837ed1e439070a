//! `notify test`: a notification to each entry of the settings.

use super::{
    ExitError,
    check::row::{Row, table},
    load, output,
};
use crate::{
    cli::SettingsArgs,
    notify::send_test,
    system::{clock::Clock, telemetry},
};

pub(super) async fn test(args: &SettingsArgs) -> Result<(), ExitError> {
    let settings = load(args)?;
    if settings.notify.is_empty() {
        return Err(ExitError::Unwell(
            "the settings have no [[notify]]; see docs/notifications.md".to_owned(),
        ));
    }
    let bridge = settings.mqtt.base_topic.at_site(settings.mqtt.site.as_ref());
    let clock = Clock::system();
    let mut rows = Vec::new();
    for target in &settings.notify {
        let (format, host) = (target.format(), target.host());
        let answer = send_test(&bridge, target, &clock).await;
        let said = |text| format!("{format} to {host}: {text}");
        rows.push(Row::new(&target.id, answer.map(said).map_err(said)));
    }
    output::print(&table(&rows, telemetry::has_color(&std::io::stdout())))?;
    match rows.iter().filter(|row| row.failed()).count() {
        0 => Ok(()),
        failed => Err(ExitError::Unwell(format!(
            "{failed} of {} notifications were not sent to all",
            rows.len()
        ))),
    }
}

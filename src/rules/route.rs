//! `route`: sends a record to another topic, the first one whose condition holds; there it meets that topic's rules. One for which
//! none holds goes to `otherwise`, or on its way.

use super::filter::Condition;
use crate::json::Malformed;
use crate::topic::TopicName;

#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub to: Vec<(TopicName, Condition)>,
    pub otherwise: Option<TopicName>,
}

impl Route {
    /// The number of the topic that it goes to, for [`Route::target`].
    pub fn choose(&self, value: &[u8]) -> Result<Option<usize>, Malformed> {
        for (number, (_, condition)) in self.to.iter().enumerate() {
            if condition.holds(value)? {
                return Ok(Some(number));
            }
        }
        Ok(self.otherwise.as_ref().map(|_| self.to.len()))
    }

    pub fn target(&self, number: usize) -> &TopicName {
        match (self.to.get(number), &self.otherwise) {
            (Some((topic, _)), _) | (None, Some(topic)) => topic,
            (None, None) => unreachable!("numbers come from `choose`"),
        }
    }

    pub fn targets(&self) -> impl Iterator<Item = &TopicName> {
        self.to.iter().map(|(topic, _)| topic).chain(&self.otherwise)
    }
}

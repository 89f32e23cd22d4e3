//! Secrets: named by where they are, never written in the config, never shown.

use std::cell::Cell;
use std::path::PathBuf;

use super::{Named, Reader};
use crate::config::model::{Secret, SecretPlace};
use crate::config::raw::{At, Entry, Node, Raw, join, quote};

impl<'a> Reader<'a> {
    /// A secret: never written in the config itself.
    pub fn secret(&self, key: &'static str) -> Option<Secret> {
        let secret = self.get(key, "secret", None, |node| self.secret_from(key, node));
        self.mask(|value| value.starts_with('{'));
        secret
    }

    /// A secret that must be given and is read again while the node runs, where its file is known.
    pub fn need_secret_place(&self, key: &'static str) -> Option<SecretPlace> {
        if !self.has(key) {
            self.error(self.table.at, key, format!("`{key}` is missing"));
        }
        let secret = self.secret(key);
        self.required();
        Some(match self.secret_file(key) {
            Some(file) => SecretPlace::File(file),
            None => SecretPlace::Held(secret?),
        })
    }

    /// The file that a secret stands in, if it is in one.
    pub fn secret_file(&self, key: &str) -> Option<PathBuf> {
        let Raw::Table(table) = &self.table.get(key)?.node.value else { return None };
        let [Entry { key, node: Node { value: Raw::Text(name), at }, .. }] = table.entries.as_slice() else {
            return None;
        };
        match key.as_str() {
            "file" => Some(self.beside(*at, name)),
            "credential" => Some(self.scope.around.credentials.as_ref()?.join(name)),
            _ => None,
        }
    }

    /// A list of secrets, each with where it is; one alone is a list of one.
    pub fn secrets(&self, key: &'static str) -> Vec<(Secret, At)> {
        let written = Cell::new(false);
        let read = |node: &'a Node| {
            let nodes = match &node.value {
                Raw::List(nodes) => nodes.as_slice(),
                _ => std::slice::from_ref(node),
            };
            written.set(nodes.iter().any(|node| !matches!(node.value, Raw::Table(_))));
            let each = |node: &Node| match self.secret_from(key, node) {
                Ok(secret) => Some((secret, node.at)),
                Err(message) => {
                    self.error(node.at, key, message);
                    None
                }
            };
            Ok(nodes.iter().filter_map(each).collect())
        };
        let secrets = self.get(key, "list of secrets", None, read);
        self.mask(|_| !written.get());
        secrets.unwrap_or_default()
    }

    /// The setting that was read last is not shown unless it only says where its secret is.
    fn mask(&self, is_reference: impl Fn(&str) -> bool) {
        if let Some(setting) = self.scope.settings.borrow_mut().last_mut()
            && !setting.value.is_empty()
            && !is_reference(&setting.value)
        {
            setting.value = quote("***");
        }
    }

    fn secret_from(&self, key: &str, node: &Node) -> Result<Secret, String> {
        let Raw::Table(table) = &node.value else {
            return Err(format!(
                "a secret does not belong into the config; write {key} = {{ file = \"...\" }}, {{ env = \"...\" }} or \
                 {{ credential = \"...\" }}"
            ));
        };
        let around = self.scope.around;
        if let [Entry { key, node: Node { value: Raw::Text(name), at }, .. }] = table.entries.as_slice() {
            let named = match key.as_str() {
                "file" => Some(Named::Secret(self.beside(*at, name))),
                "env" => Some(Named::Environment(name.clone())),
                "credential" => Some(Named::Credential(name.clone())),
                _ => None,
            };
            self.scope.named.borrow_mut().extend(named);
        }
        if around.checking && around.credentials.is_none() && table.get("credential").is_some() {
            let message = "not looked at: credentials are only given to the service";
            self.scope.report.warn(node.at, &join(&self.path, "credential"), message);
            return Ok(Secret(String::new()));
        }
        self.resolve(node).map(Secret)
    }
}

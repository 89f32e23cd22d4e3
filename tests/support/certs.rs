//! Certificates of a test's own, made by openssl.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// From when to when a certificate is good.
#[derive(Clone, Copy)]
pub enum Good {
    Days(u32),
    /// In 2020, and no longer.
    Once,
}

/// An authority, in a directory with everything that it issued: `NAME.pem` and `NAME.key`.
pub struct Authority {
    dir: TempDir,
}

const CONFIG: &str = "[ca]\ndefault_ca = d\n[d]\ndatabase = index\nserial = serial\nnew_certs_dir = .\n\
    certificate = ca.pem\nprivate_key = ca.key\ndefault_md = sha256\npolicy = p\nunique_subject = no\n\
    [p]\ncommonName = optional\n";

impl Authority {
    pub fn new() -> Self {
        let made = Self { dir: tempfile::tempdir().unwrap() };
        for (name, text) in [("ca.cnf", CONFIG), ("index", ""), ("serial", "01\n")] {
            std::fs::write(made.path(name), text).unwrap();
        }
        // Each has a name of its own.
        let name = made.dir.path().file_name().unwrap().display().to_string();
        made.openssl(&format!("req -x509 {KEY} -days 3650 -subj /CN={name} -keyout ca.key -out ca.pem"));
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn openssl(&self, words: &str) {
        let made = Command::new("openssl").args(words.split(' ')).current_dir(self.dir.path()).output();
        let made = made.expect("openssl is installed by scripts/test.sh");
        assert!(made.status.success(), "{words}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// A certificate for this common name, for `localhost` and its SPU as official clients name it, and for 127.0.0.1.
    pub fn issue(&self, name: &str, good: Good) {
        std::fs::write(self.path("names"), "subjectAltName=DNS:localhost,DNS:headwater-5001.localhost,IP:127.0.0.1\n")
            .unwrap();
        self.openssl(&format!("req -new {KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let good = match good {
            Good::Days(days) => format!("-days {days}"),
            Good::Once => "-startdate 20200101000000Z -enddate 20201231000000Z".into(),
        };
        self.openssl(&format!("ca -config ca.cnf -batch -notext -extfile names {good} -in {name}.csr -out {name}.pem"));
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

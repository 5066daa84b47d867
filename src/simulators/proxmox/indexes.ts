type Index = { readonly name: string }[];

const named = (names: string): Index => names.split(' ').map((name) => ({ name }));

/** What lies below `/cluster`, `/nodes/{node}`, ...: the real API names all of it, also what this simulator does not answer. */
export const CLUSTER_INDEX = (version: '8.4' | '9.1'): Index =>
  named(
    `replication metrics notifications config firewall backup backup-info ha acme ceph jobs mapping ${
      version === '9.1' ? 'bulk-action ' : ''
    }sdn log resources tasks options status nextid`,
  );

export const NODE_INDEX = (version: '8.4' | '9.1'): Index =>
  named(
    `qemu lxc ceph vzdump services subscription network tasks scan hardware capabilities storage disks apt firewall replication certificates config sdn version status netstat execute wakeonlan rrd rrddata syslog journal vncshell termproxy vncwebsocket spiceshell dns time aplinfo ${
      version === '9.1' ? 'query-oci-repo-tags ' : ''
    }query-url-metadata report startall stopall suspendall migrateall hosts`,
  );

export const STORAGE_INDEX = (version: '8.4' | '9.1'): Index =>
  named(
    `content download-url file-restore import-metadata ${
      version === '9.1' ? 'oci-registry-pull ' : ''
    }prunebackups rrd rrddata status upload`,
  );

export const TASK_INDEX: Index = named('log status');
export const CERTIFICATES_INDEX: Index = named('acme info custom');

// Reads so many rows from a slot with pg-logical-replication and ends. The arguments are
// a connection string, the slot, the publication and the number of rows.
import { LogicalReplicationService, PgoutputPlugin } from 'pg-logical-replication';

const [connectionString, slot, publication, count] = process.argv.slice(2);
let left = Number(count);
const service = new LogicalReplicationService({ connectionString }, { acknowledge: { auto: false, timeoutSeconds: 0 } });
service.on('data', (lsn, message) => {
  if (message.tag === 'insert' && --left === 0) process.exit(0);
});
service.on('error', (err) => {
  console.error(err.message);
  process.exit(1);
});
service.subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: [publication] }), slot).catch((err) => {
  console.error(err.message);
  process.exit(1);
});

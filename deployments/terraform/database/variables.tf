variable "vpc_id" {
  description = "Where the databases are."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in two availability zones or more."
  type        = list(string)
  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "RDS wants subnets in two availability zones or more."
  }
}

variable "engine_version" {
  description = "Of Postgres: a major version, of which RDS takes the newest, or an exact one. 15 or newer; from 17 on a replica keeps the slots too."
  type        = string
  default     = "17"
  validation {
    condition     = can(regex("^[0-9]+([.][0-9]+)?$", var.engine_version)) && try(tonumber(split(".", var.engine_version)[0]), 0) >= 15
    error_message = "It is 15 or newer, as in 17 or 17.5."
  }
}

variable "instance_class" {
  description = "Of both instances. Checkouts want processors: see docs/checkout.md."
  type        = string
  default     = "db.m7g.large"
}

variable "multi_az" {
  description = "A standby in another zone with the same storage, at twice the price: a failover takes about a minute, loses no commit and no slot."
  type        = bool
  default     = true
}

variable "replica" {
  description = "A read replica of each, to which the slots are copied, from Postgres 17 on, for a promotion by hand; the price of another instance. After it was made, set synchronized_standby_slots."
  type        = bool
  default     = false
}

variable "owner_secret_arns" {
  description = "With replica, by database, a secret that has the owner's password as JSON: {\"password\":\"…\"}. Without a replica RDS keeps and rotates it."
  type        = map(string)
  default     = {}
}

variable "owner_password_version" {
  description = "With replica: another number has the owner's password set anew from its secret."
  type        = number
  default     = 1
}

variable "synchronized_standby_slots" {
  description = "By database the physical slot of its replica, as SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'physical' shows it. With it the relay publishes nothing that the replica lacks, and stands still while the replica is away; without it a promoted replica may lack events that were published."
  type        = map(string)
  default     = {}
  validation {
    condition     = length(setsubtract(keys(var.synchronized_standby_slots), ["store", "customers"])) == 0
    error_message = "Its keys are store and customers."
  }
}

variable "storage_gb" {
  description = "Disk of each instance at first, in GiB."
  type        = number
  default     = 200
  validation {
    condition     = var.storage_gb >= 20
    error_message = "RDS wants 20 GiB or more."
  }
}

variable "max_storage_gb" {
  description = "What the disk may grow to by itself, in GiB."
  type        = number
  default     = 1000
}

variable "wal_budget_gb" {
  description = "WAL that a slot may keep, in GiB (max_slot_wal_keep_size): while no relay runs it grows so far, then the slot is lost, and healed by a sweep. Output wal_budget_bytes is RESTOCK_WAL_BUDGET of the relays."
  type        = number
  default     = 50
  validation {
    condition     = var.wal_budget_gb >= 1 && floor(var.wal_budget_gb) == var.wal_budget_gb
    error_message = "It is a whole number of 1 or more: without a bound a relay that is down fills the disk."
  }
}

variable "slots" {
  description = "Replication slots that there may be: one for each relay, those of other users, and some to spare. Twice as many senders."
  type        = number
  default     = 10
  validation {
    condition     = var.slots >= 5 && floor(var.slots) == var.slots
    error_message = "RDS wants 5 or more."
  }
}

variable "sender_timeout_seconds" {
  description = "wal_sender_timeout: after so long without a word Postgres lets go of whoever reads a slot. A relay sets its own (RESTOCK_SENDER_TIMEOUT); this is for others."
  type        = number
  default     = 30
  validation {
    condition     = var.sender_timeout_seconds >= 1
    error_message = "0 would keep the slot of a dead reader for ever."
  }
}

variable "backup_days" {
  description = "Days that backups are kept, to be restored to any second of them. The outbox keeps 30 days: an older backup lacks events that consumers have handled."
  type        = number
  default     = 14
  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "It is 1 to 35."
  }
}

variable "deletion_protection" {
  description = "Neither instance can be destroyed, and a last snapshot is taken when one is. False is for tests."
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "Your own key for disks, backups and secrets. Null: the account's default keys."
  type        = string
  default     = null
}

variable "owner" {
  description = "The instances' master user, as whom restock migrate and restock maintain work."
  type        = string
  default     = "restock"
}

variable "name_prefix" {
  description = "Names begin with it."
  type        = string
  default     = "restock"
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}

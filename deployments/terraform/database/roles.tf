# The roles that restock migrate makes, by database. roles.json is held against package
# schema by a test.
locals {
  roles = jsondecode(file("${path.module}/roles.json"))
}

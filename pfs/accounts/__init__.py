"""Who there is: accounts and their groups, how they come in, and what they may have.

recognition  whose key it is, looked up once
store        all of it, as the server asks for it     | enrolment  machines that become nodes; certificates
limits       how much users and groups may hold
groups       who is in which
keyring      keys and tokens: known by their fingerprints alone
tables       what is kept in SQL                      | passwords  their hashes
strength, throttle, registration: rules
"""

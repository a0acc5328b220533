"""What to ask of each kind of evidence, to start from: strict where a good value is known, a reason wherever any is admitted.

Knows: one section for each kind. Does not know: whose policy it goes into. The least firmware of Milan and Genoa is that
which checks for aliased memory (AMD-SB-3015, "BadRAM"); owners raise the parts of the TCB to what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from strongroom.records.policy import (
    CcaPolicy,
    NitroPolicy,
    Requirement,
    SgxPolicy,
    SnpMinimum,
    SnpPolicy,
    TdxPolicy,
    TpmPolicy,
)

NOT_KNOWN = "not known yet: pin it as soon as it is"
ANY_STATE = "says something about the machine, nothing about what it protects"


def one(*values: str) -> Requirement:
    """One of these values."""
    return Requirement(one_of=values)


def free(reason: str = NOT_KNOWN) -> Requirement:
    """Any value, for a reason."""
    return Requirement(any=reason)


NO = one("0")
YES = one("1")
ZEROS_48 = one("00" * 48)


def tdx() -> TdxPolicy:
    """A TD that nobody debugs, migrates or profiles, on a platform that is up to date."""
    return TdxPolicy(
        mrseam=free("any module that Intel's TCB info admits"),
        mrsignerseam=ZEROS_48,
        xfam=free("extended features do not weaken isolation"),
        debug=NO,
        sept_ve_disable=YES,
        perfmon=NO,
        migratable=NO,
        pks=free("supervisor protection keys are the guest's own affair"),
        kl=free("key locker is the guest's own affair"),
        mrowner=ZEROS_48,
        mrownerconfig=ZEROS_48,
        mr_service_td=one("", "00" * 48),
        dynamic_platform=free(ANY_STATE),
        cached_keys=free(ANY_STATE),
        smt=free("the TCB level accounts for it"),
        tcb_status=one("UpToDate"),
        advisories=one("none"),
        tcb_evaluation_minimum=1,
        tcb_date_minimum="2018-01-01",
    )


def sgx() -> SgxPolicy:
    """A production enclave on a platform that is up to date."""
    return SgxPolicy(
        debug=NO,
        provision_key=NO,
        einittoken_key=NO,
        kss=free("sharing keys by configuration is the enclave's own affair"),
        config_id=free(),
        config_svn_minimum=0,
        mrsigner=free("the enclave itself is a reference value"),
        isvprodid=free("the enclave itself is a reference value"),
        isvsvn_minimum=0,
        xfrm=free("extended features do not weaken isolation"),
        miscselect=one("00000000"),
        dynamic_platform=free(ANY_STATE),
        cached_keys=free(ANY_STATE),
        smt=free("the TCB level accounts for it"),
        tcb_status=one("UpToDate"),
        advisories=one("none"),
        tcb_evaluation_minimum=1,
        tcb_date_minimum="2018-01-01",
    )


def snp() -> SnpPolicy:
    """A guest that nobody debugs or migrates, at VMPL 0, on firmware that has checked for aliased memory."""
    return SnpPolicy(
        minimum={
            "Milan": SnpMinimum(0, 0, 0, 0, 0, "1.55.22", 0),
            "Genoa": SnpMinimum(0, 0, 0, 0, 0, "1.55.38", 0),
            "Turin": SnpMinimum(0, 0, 0, 0, 0, "1.55.38", 0),
        },
        debug=NO,
        migrate_ma=NO,
        smt=free("sibling threads are the scheduler's affair; ask for 0 where side channels matter"),
        single_socket=free(ANY_STATE),
        cxl=NO,
        mem_aes_256_xts=free("older parts encrypt with 128 bits"),
        rapl_dis=free("power readings are a side channel; ask for 1 where the platform can"),
        ciphertext_hiding=free("older parts cannot; ask for 1 where the platform can"),
        page_swap_disable=free("older parts cannot; ask for 1 where the platform can"),
        platform_smt=free("see smt"),
        tsme=free("the guest's memory is encrypted in any case"),
        ecc=free(ANY_STATE),
        platform_rapl_dis=free("see rapl_dis"),
        platform_ciphertext_hiding=free("see ciphertext_hiding"),
        alias_check_complete=YES,
        iommu_write_safe=free("older firmware does not tell"),
        tio=free(ANY_STATE),
        vmpl=NO,
        provisional=NO,
        signing_key=one("vcek", "vlek"),
        csp_id=free("whose machine it is, is a matter of custody"),
        family_id=free(),
        image_id=free(),
        id_key_digest=free("the launch measurement is a reference value"),
        author_key_digest=free("the launch measurement is a reference value"),
        guest_svn_minimum=0,
        guest_abi_minimum="0.0",
    )


def tpm() -> TpmPolicy:
    """A machine with Secure Boot on, whose key a certificate, an enrolment or the paravisor vouches for."""
    return TpmPolicy(
        measured=YES,
        bank=one("sha256"),
        pcrs={},
        source=one("certificate", "enrolment", "paravisor"),
        ak_names=free("which machine it is, is a matter of custody"),
        endorsements=free("which machine it is, is a matter of custody"),
        firmware_minimum="0" * 16,
        clock_safe=free("the nonce makes it fresh"),
        secure_boot=free("what decides about it is pinned in PCR 7"),
    )


def nitro() -> NitroPolicy:
    """An enclave of any instance, with a document not older than a minute."""
    return NitroPolicy(
        debug=NO,
        pcr3=free("the instance's role does not change what the enclave is"),
        pcr4=free("which instance it is, is a matter of custody"),
        pcr8=free("the image itself is a reference value"),
        module=free("it is new at each start"),
        nonce=free("the nonce is bound into the user data"),
        revocation=free("AWS tells verifiers to leave it out; its signing keys live for three hours"),
        maximum_age=60,
    )


def cca() -> CcaPolicy:
    """A realm on any platform that is secured."""
    return CcaPolicy(
        lifecycle=one("secured"),
        implementation_id=free(),
        instance_id=free("which machine it is, is a matter of custody"),
        config=free(),
        components=free(),
        realm_hash=one("sha-512"),
        rem1=one("00" * 64),
        rem2=one("00" * 64),
        rem3=one("00" * 64),
    )


SECTIONS: Mapping[str, Mapping[str, Callable[[], Any]]] = {
    "tdx": {"tdx": tdx},
    "sgx": {"sgx": sgx},
    "snp": {"snp": snp},
    "tpm": {"tpm": tpm},
    "nitro": {"nitro": nitro},
    "cca": {"cca": cca},
    "az-snp": {"snp": snp, "tpm": tpm},
    "az-tdx": {"tdx": tdx, "tpm": tpm},
    "gce-snp": {"snp": snp, "tpm": tpm},
    "gce-tdx": {"tdx": tdx, "tpm": tpm},
}
"""Kind of evidence -> the sections of a policy that it is judged by."""
